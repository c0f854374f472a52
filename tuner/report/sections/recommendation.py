"""The section of the recommendation: one configuration a tier, and one for all where it costs little."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from tuner.analysis.recommendation import (
    COMPROMISE,
    NoBetter,
    compromise,
    no_better,
    shares_of_best,
)
from tuner.config.study import StudyConfig
from tuner.confirm.results import RemeasuredTier
from tuner.metrics.notation import stated
from tuner.report.command_line import command_lines
from tuner.report.console import say
from tuner.report.points import trial_name
from tuner.report.sections.quality import unchecked
from tuner.results.ledger import Finished
from tuner.results.tiers import Winner


def show_recommended(
    study: StudyConfig,
    measured: Sequence[Finished],
    winners: Mapping[str, Winner],
    remeasured: Mapping[str, RemeasuredTier],
    fewest: Mapping[str, Finished],
    console: Console,
) -> frozenset[str]:
    """Returns the tiers in which nothing beats the default.

    `winners`: tier → its best; `fewest`: tier → the ablation that keeps its gain.
    """
    equal = no_better(study, measured, winners, remeasured)
    if equal:
        say(
            console, f"{', '.join(equal)}: {_no_better_text(study, list(equal.values()))}", "yellow"
        )
    chosen_of = {t: equal[t].default if t in equal else w.index for t, w in winners.items()}
    places = list(dict.fromkeys(chosen_of.values()))
    for place in places:
        tiers = [tier for tier, chosen in chosen_of.items() if chosen == place]
        say(console, f"Recommended for {', '.join(tiers)}", "bold")
        _say_command(study, measured[place], "", console)
        few = {fewest[tier].number: fewest[tier] for tier in tiers if tier in fewest}
        for trial in few.values():
            say(console, "The same with the fewest changes, confirmed", "bold")
            _say_command(study, trial, "", console)
    shares = shares_of_best(study, measured, winners, remeasured)
    chosen = compromise(shares) if len(places) > 1 else None
    if chosen is not None:
        shown = ", ".join(f"{tier} {share:.0%}" for tier, share in shares[chosen].items())
        say(console, "One configuration for all tiers", "bold")
        _say_command(study, measured[chosen], f" ({shown} of the best)", console)
    elif len(places) > 1:
        none = f"No configuration keeps {COMPROMISE:.0%} of the best in every tier"
        say(console, f"{none}: run one for each.")
        console.print()
    return frozenset(equal)


def _no_better_text(study: StudyConfig, tiers: Sequence[NoBetter]) -> str:
    text = "nothing beats the default beyond noise"
    known = [each.least for each in tiers if each.least is not None]
    if not known:
        return f"{text}."
    text += f"; the smallest gain that could have been seen is {max(known):.1%}"
    if all(each.remeasured for each in tiers):
        return f"{text}."
    noise = f"{stated(100 * study.search.confirm.noise)} %"
    return f"{text}, of one start each that may be off by {noise} (search.confirm.noise)."


def _say_command(study: StudyConfig, entry: Finished, detail: str, console: Console) -> None:
    say(console, f"trial {trial_name(entry)}, {entry.engine}: {entry.knobs}{detail}")
    if why := unchecked(study, entry):
        say(console, f"Its answers were not compared with the default's: {why}.", "bold yellow")
    say(console, command_lines(entry.result.command), "cyan", whole=True)
    console.print()
