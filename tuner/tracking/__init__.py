"""Mirrors the ledger to MLflow."""
