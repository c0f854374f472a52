"""What the commands of a study have in common: overrides, --multirun, --cfg, --info, lists and completion."""
