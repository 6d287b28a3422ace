"""The state of a trainer, with every version of detectron2."""

from typing import Any

from detectron2.engine import DefaultTrainer


class WholeState(DefaultTrainer):
    """`DefaultTrainer`, whose state in version 0.6 has nothing of the optimizer."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the hooks, and as `_trainer` that of the step."""
        state: dict[str, Any] = super().state_dict()
        if "_trainer" not in state:
            state["_trainer"] = self._trainer.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` has returned."""
        super().load_state_dict(state_dict)
        if "load_state_dict" not in vars(DefaultTrainer):
            self._trainer.load_state_dict(state_dict["_trainer"])
