"""Token selection with its options bound and its state between ticks."""

from __future__ import annotations

import torch
from torch import Tensor

from efficientvla_ros.acceleration.token_baselines import fastv, random_tokens
from efficientvla_ros.acceleration.token_counts import checked_counts
from efficientvla_ros.acceleration.token_options import TokenOptions
from efficientvla_ros.acceleration.token_roles import KEY
from efficientvla_ros.acceleration.token_selection import Selection, select_tokens


class Hysteresis:
    """Prefers what was kept at the tick before, so that the kept set does not flicker.

    Key tokens get the bonus twice: when one of them changes, so do all diversity tokens.
    """

    def __init__(self, weight: float, patches: int, device: torch.device | str = 'cpu') -> None:
        """Starts with nothing kept; `weight` is the bonus."""
        self._bonus = torch.zeros(1, patches, device=device)
        self._weight = weight

    @property
    def bonus(self) -> Tensor:
        """float32 [1, patches]; the same memory always."""
        return self._bonus

    def remember(self, selection: Selection) -> None:
        """Takes what was kept at this tick, [1, K]."""
        weight = self._weight * (1.0 + (selection.role == KEY).float())
        self._bonus.zero_().scatter_(1, selection.kept, weight)

    def reset(self) -> None:
        """Forgets what was kept; for a new episode or instruction."""
        self._bonus.zero_()


class TokenSelector:
    """Chooses tokens tick by tick for one sequence at a time.

    Attributes:
        options: how tokens are chosen.
    """

    def __init__(
        self,
        options: TokenOptions,
        patches: int,
        device: torch.device | str = 'cpu',
        seed: int = 0,
    ) -> None:
        """Allocates the state.

        Raises:
            SelectionError: more tokens are to be kept than there are.
        """
        checked_counts(patches, options.keep, options.key, options.alpha)
        self.options = options
        self._patches = patches
        self._seed = seed
        self._generator = torch.Generator(device=device)
        self._hysteresis = None
        if options.method == 'efficientvla' and options.hysteresis > 0.0:
            self._hysteresis = Hysteresis(options.hysteresis, patches, device)
        self.reset()

    def __call__(self, relevance: Tensor | None, hidden: Tensor) -> Selection:
        """Selects.

        Args:
            relevance: `token_scores.relevance` over `options.scored_rows`, [1, P]; None where
                `options.needs_scores` is False.
            hidden: the patches' states after the scoring layer, [1, P, D].
        """
        options = self.options
        if options.method == 'random':
            return random_tokens(len(hidden), self._patches, options.keep, self._generator)
        if options.method == 'fastv':
            return fastv(relevance, options.keep)
        memory = self._hysteresis
        selection = select_tokens(
            relevance,
            hidden,
            options.keep,
            options.key,
            options.alpha,
            options.diversity,
            None if memory is None else memory.bonus,
        )
        if memory is not None:
            memory.remember(selection)
        return selection

    def reset(self) -> None:
        """Starts over: random draws from the seed on, hysteresis from nothing."""
        self._generator.manual_seed(self._seed)
        if self._hysteresis is not None:
            self._hysteresis.reset()
