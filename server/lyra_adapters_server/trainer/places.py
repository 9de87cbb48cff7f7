"""Tokens that stand end to end, copied to where a batched product wants them, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Places:
    """Which tokens stand where in several padded groups of rows, for tensors of any number of heads."""

    def __init__(
        self, groups: Sequence[torch.Tensor], tokens: int, shared: int, filler: int, device: torch.device
    ) -> None:
        """Takes the layout.

        Args:
            groups: For each group, (rows, width), int64: which token. In the place of padding a row's last is repeated.
            tokens: How many there are, the filler included.
            shared: The first so many columns of every group are the same tokens, and the first group holds no others.
            filler: The last so many tokens are in no group.
            device: Of the tensors to come.
        """
        self._groups, self._tokens, self._shared, self._device = groups, tokens, shared, device
        self._filler = filler
        self._starts = [0]
        for group in groups:
            self._starts.append(self._starts[-1] + group.numel())
        self._indices: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (1, heads, tokens, width of a head) to (places of all groups * heads, width of a head)."""
        heads, size = x.shape[1], x.shape[3]
        return x.transpose(1, 2).reshape(-1, size).index_select(0, self._index(heads)[0])

    def part(self, flat: torch.Tensor, number: int, heads: int) -> torch.Tensor:
        """One group's part of what `pad` gives, as a view.

        Args:
            flat: Of as many heads, or of a multiple: those that share one key head then stand behind each other.
            number: Of the group.
            heads: Of keys.

        Returns:
            (rows * heads, group's width or a multiple of it, width of a head).
        """
        each = len(flat) // self._starts[-1]
        within = flat[self._starts[number] * each : self._starts[number + 1] * each]
        return within.view(len(self._groups[number]) * heads, -1, flat.shape[-1])

    def pack(self, flat: torch.Tensor, heads: int) -> torch.Tensor:
        """Maps what `pad` gives to contiguous (1, tokens, heads, width of a head).

        What is in padding is ignored, and the filler is 0: no gradient comes from it.
        """
        found = flat.index_select(0, self._index(heads)[1]).view(1, self._tokens, heads, -1)
        if self._filler:
            found[:, -self._filler :] = 0
        return found

    def pack_gradient(self, flat: torch.Tensor, heads: int) -> torch.Tensor:
        """As `pack`; the gradients of a token that all rows share are added up, in the first group's part of `flat`."""
        if self._shared:
            first = self.part(flat, 0, heads)
            total = first.float()
            for number in range(1, len(self._groups)):
                part = self.part(flat, number, heads).view(-1, heads, self._groups[number].shape[1], flat.shape[-1])
                total += part[:, :, : self._shared].sum(dim=0, dtype=torch.float32)
            first.copy_(total)
        return self.pack(flat, heads)

    def _index(self, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
        # Of padded places among the packed ones, and the other way round; each place is one head of one token.
        if heads not in self._indices:
            head = torch.arange(heads)[:, None]
            there = torch.cat([(group[:, None] * heads + head).reshape(-1) for group in self._groups])
            # Of several places of one token the first is the token's own: the others are padding, or another group's.
            # The filler has no place; it gets any, since it becomes 0.
            back = torch.full((self._tokens * heads,), len(there) - 1)
            back.scatter_reduce_(0, there, torch.arange(len(there)), "amin")
            self._indices[heads] = there.to(self._device), back.to(self._device)
        return self._indices[heads]
