"""Rename the weights of a source: one mechanism for all sources, each a table of rules."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

# Either a template that refers to the pattern's groups as \1, \2, ..., or a function of the match.
Template = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Rule:
    """A rule for the weights of a source whose whole name matches a pattern.

    Attributes:
        pattern: a regular expression.
        target: our name.
        part, parts: the weight is the `part`-th of `parts` that are concatenated along the first
            dimension (queries, keys and values of an attention).
        transform: applied to the weight, if given.
        reason: why the weight is dropped; a rule with a reason has no target.
    """

    pattern: str
    target: Template = ""
    part: int = 0
    parts: int = 1
    transform: Callable[[Tensor], Tensor] | None = None
    reason: str = ""


@dataclass
class Renamed:
    """The result of applying rules to a checkpoint.

    Attributes:
        weights: tensors by our names.
        origins: the source's names of each weight.
        dropped: reasons by the source's names.
        unknown: the source's names that match no rule.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    origins: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def rename(weights: dict[str, Tensor], rules: Sequence[Rule]) -> Renamed:
    """Rename weights; the first rule whose pattern matches decides.

    Two weights with one new name, or a weight that lacks one of its parts, count as unknown.
    """
    renamed = Renamed()
    parts: dict[str, dict[int, tuple[str, Tensor]]] = {}
    wanted: dict[str, int] = {}
    for name, weight in weights.items():
        rule, match = _first(name, rules)
        if rule is None or match is None:
            renamed.unknown.append(name)
        elif rule.reason:
            renamed.dropped[name] = rule.reason
        else:
            target = _target(rule, match)
            wanted[target] = rule.parts
            if rule.part in parts.setdefault(target, {}):
                renamed.unknown.append(name)
            else:
                parts[target][rule.part] = (
                    name,
                    rule.transform(weight) if rule.transform else weight,
                )
    for target, found in parts.items():
        names = [found[index][0] for index in sorted(found)]
        if len(found) < wanted[target]:
            renamed.unknown += names
            continue
        tensors = [found[index][1] for index in sorted(found)]
        renamed.weights[target] = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        renamed.origins[target] = names
    return renamed


def _target(rule: Rule, match: re.Match[str]) -> str:
    return match.expand(rule.target) if isinstance(rule.target, str) else rule.target(match)


def _first(name: str, rules: Sequence[Rule]) -> tuple[Rule | None, re.Match[str] | None]:
    for rule in rules:
        match = re.fullmatch(rule.pattern, name)
        if match:
            return rule, match
    return None, None
