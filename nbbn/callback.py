"""What a callback is."""

from typing import Any

Logs = dict[str, float]


class Callback:
    """What is called while a model trains; a subclass overrides the methods it needs.

    `model` and `params` (`epochs`, `steps`, `verbose`) are set before training. `logs` holds Python
    floats by name. With a method of a training batch overridden, training returns to Python after
    every batch. Epochs, and the batches of an epoch, are counted from 0.

    Examples
    --------
    >>> import nbbn
    >>> class Printed(nbbn.callbacks.Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print(epoch, sorted(logs))
    ...
    >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> x = y = [[0.0], [1.0]]
    >>> history = model.fit(x, y, epochs=2, callbacks=[Printed()], verbose=0)
    0 ['loss']
    1 ['loss']
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Take the model that is trained."""
        self.model = model

    def _say(self, text: str) -> None:
        """Print a line, if the callback is `verbose`."""
        if getattr(self, "verbose", 0) > 0:
            print(text)

    def set_params(self, params: dict[str, Any]) -> None:
        """Take `epochs`, `steps` and `verbose`."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch, validation included; what is put into `logs` is recorded."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of an epoch."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch; `logs` are the means of the epoch so far."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """The older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """The older name of `on_train_batch_end`."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before a validation or an `evaluate`."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After it."""
