"""A classifier of scikit-learn for tables and for embeddings."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from dropmax import _check
from dropmax.analysis import retained_classes
from dropmax.data.record import Record
from dropmax.heads import Scores
from dropmax.integrations.sklearn import storage
from dropmax.integrations.sklearn.fitting import (
    NO_SCARCITY,
    Fitting,
    check_built,
    check_loss,
    check_parameters,
    fit_epochs,
    indices_of,
    normalized,
    rows_and_labels,
    scarcity_of,
    seeds_of,
    shape_of,
    weights_of,
    widths_of,
)
from dropmax.integrations.sklearn.network import (
    PREDICTED_AT_ONCE,
    accuracy_of,
    make_network,
    make_optimizer,
    train_epoch,
)
from dropmax.integrations.sklearn.rows import Rows, numbers, record_of, scale_to
from dropmax.wrap import find_head
from dropmax.wrap.predictor import scores_of


class DropMaxClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier for scikit-learn: dense layers and a head, trained on the rows of a table.

    Use it like any classifier of scikit-learn. A DataFrame may hold categories, dates, booleans and
    gaps: `dropmax.data.Record` makes numbers of them. It scales the features itself, to mean 0 and
    deviation 1, sparse ones batch by batch. Parameters have the names and meanings of
    `sklearn.neural_network.MLPClassifier`, but `alpha` and `learning_rate_init` differ as stated
    here.

    Args:
        head: A head as `dropmax.make_head` takes it: "dropmax", "softmax:label_smoothing=0.1", ...
        hidden_layer_sizes: Widths of the dense layers before the head; () makes it linear. "auto"
            is one layer. With r rows of a class on average and s = sqrt(10 / r), it has the width
            512 s, from 100 to 512.
        alpha: Weight decay, decoupled from the gradient. It spares the head's gate. "auto" is s^2,
            from 0.1 to 1.
        batch_size: The number of rows in a step; "auto" is all of them, but at most 200.
        learning_rate_init: The largest step size of Adam. The step size rises to it in the first
            tenth of the steps, and then falls by a cosine. `partial_fit` takes a tenth of it.
        max_iter: The number of epochs. "auto" is 200 s, from 50 to 200.
        early_stopping: Whether to hold out a part of the rows, stop when the accuracy on them no
            longer rises, and keep the best weights.
        validation_fraction: The part of the rows that early stopping holds out.
        n_iter_no_change: Training stops after so many epochs without an improvement by `tol`. With
            early stopping this is about the accuracy, and 10 if None. Otherwise it's about the
            objective on the training rows, and None trains all epochs.
        tol: The least improvement that counts.
        random_state: Seed of the initial weights, the order of rows and the noise.
        warm_start: Whether `fit` starts from the weights of the last fit.
        verbose: Whether to show a progress bar.
        class_weight: Weights by class, "balanced", or None. A class without one has weight 1.

    Attributes:
        classes_: The classes, sorted.
        n_features_in_: The number of features. If X names them, they are in `feature_names_in_`.
        n_iter_: The number of epochs so far.
        loss_curve_: The mean objective of each epoch, in nats.
        validation_scores_: Accuracy on the rows held out by early stopping, each epoch.
        network_: The trained `nn.Sequential`, with the head last.
        scaler_: The `StandardScaler` before it.
        record_: The `Record` before that, of a DataFrame with more than numbers; otherwise None.

    Examples:
        >>> from sklearn.datasets import load_wine
        >>> from sklearn.model_selection import train_test_split
        >>> from dropmax import DropMaxClassifier
        >>> X, y = load_wine(return_X_y=True)
        >>> X, X_test, y, y_test = train_test_split(X, y, random_state=0)
        >>> classifier = DropMaxClassifier(random_state=0).fit(X, y)
        >>> bool(classifier.score(X_test, y_test) > 0.9)
        True
    """

    loss_curve_: list[float]

    def __init__(
        self,
        head: Any = "dropmax",
        hidden_layer_sizes: Any = "auto",
        *,
        alpha: Any = "auto",
        batch_size: Any = "auto",
        learning_rate_init: Any = 0.01,
        max_iter: Any = "auto",
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        n_iter_no_change: Any = None,
        tol: Any = 1e-4,
        random_state: Any = None,
        warm_start: Any = False,
        verbose: Any = False,
        class_weight: Any = None,
    ) -> None:
        self.head = head
        self.hidden_layer_sizes = hidden_layer_sizes
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "DropMaxClassifier":
        """Train on rows X `[N, D]`, an array, a sparse matrix or a DataFrame, and labels y `[N]`.

        Args:
            X: The rows.
            y: Labels: integers or strings.
            sample_weight: Weights of the rows `[N]`; ones if None.

        Raises:
            ValueError: If a parameter, a shape or a value does not fit.
        """
        again = self.warm_start and hasattr(self, "network_")
        check_parameters(self.get_params(deep=False))
        X, y = rows_and_labels(self, X, y, reset=not again)
        labels = unique_labels(y)
        if again:
            check_built(self)
        if again and not np.array_equal(labels, self.classes_):
            must = "hold the classes of the last fit where warm_start is on"
            _check.fail("y", must, labels, "set warm_start=False")
        weight = weights_of(X, y, sample_weight, self.class_weight, labels)
        initial, noise, split = seeds_of(self.random_state)
        held_out = None
        if self.early_stopping:
            X, held_X, y, held_y, weight, held_weight = train_test_split(
                X,
                y,
                weight,
                test_size=self.validation_fraction,
                stratify=y,
                random_state=split,
            )
            held_out = held_X, indices_of(held_y, labels), held_weight
        record = self.record_ if again else record_of(X)
        X = numbers(record, X)
        if held_out is not None:
            held_out = numbers(record, held_out[0]), *held_out[1:]
        scarcity = scarcity_of(len(y) / len(labels))
        scaler = scale_to(StandardScaler(), X, weight)
        if not again:
            self._begin(labels, initial, record, X.shape[1], scarcity)
        self.scaler_ = scaler
        losses, accuracies = fit_epochs(
            self.network_,
            Rows(X, self.scaler_),
            indices_of(y, self.classes_),
            normalized(weight),
            Fitting.of(self, len(y), scarcity),
            generator=torch.Generator().manual_seed(noise),
            accuracy=None
            if held_out is None
            else lambda: accuracy_of(self.network_, scaler, *held_out),
        )
        self.loss_curve_ = [*self.loss_curve_, *losses]
        self.n_iter_ = len(self.loss_curve_)
        if self.early_stopping:
            self.validation_scores_ = accuracies
        return self

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
    ) -> "DropMaxClassifier":
        """Train one epoch on more rows; the scaling follows the rows seen so far.

        The optimizer remembers the earlier calls, but not over `load`. The class weight "balanced"
        needs all rows and is refused. As nobody knows how many rows there will be, "auto" is for
        many: a width of 100, and an alpha of 0.1.

        Args:
            X: Rows `[N, D]`.
            y: Their labels.
            classes: All classes there will be; needed in the first call alone.
            sample_weight: Weights of the rows.

        Raises:
            ValueError: As `fit`, or if there is a label that is not among the classes.
        """
        first = not hasattr(self, "network_")
        check_parameters(self.get_params(deep=False))
        if first and classes is None:
            must = "be given in the first call"
            _check.fail("classes", must, None, "pass all classes there will be")
        if self.class_weight == "balanced":
            must = "be weights by class, or None"
            _check.fail("class_weight", must, "balanced", "balance over all rows")
        X, y = rows_and_labels(self, X, y, reset=first)
        known = unique_labels(classes) if first else self.classes_
        if classes is not None and not np.array_equal(unique_labels(classes), known):
            _check.fail("classes", "be those of the first call", classes, "leave it out")
        target = indices_of(y, known)
        weight = weights_of(X, y, sample_weight, self.class_weight, known)
        initial, noise, _ = seeds_of(self.random_state)
        record = record_of(X) if first else self.record_
        X = numbers(record, X)
        if first:
            self._begin(known, initial, record, X.shape[1], NO_SCARCITY)
            self.scaler_ = StandardScaler()
        check_built(self)
        scale_to(self.scaler_, X, weight)
        fitting = Fitting.of(self, len(y), NO_SCARCITY)
        step = fitting.learning_rate_init / 10.0
        if not hasattr(self, "_optimizer"):
            self._optimizer = make_optimizer(self.network_, step, fitting.alpha)
        for group in self._optimizer.param_groups:
            group["lr"] = step
        loss, _ = train_epoch(
            self.network_,
            self._optimizer,
            Rows(X, self.scaler_),
            target,
            normalized(weight),
            batch_size=fitting.batch_size,
            generator=torch.Generator().manual_seed(noise + self.n_iter_),
        )
        check_loss(loss)
        self.loss_curve_ = [*self.loss_curve_, loss]
        self.n_iter_ = len(self.loss_curve_)
        return self

    def predict(self, X: Any) -> Any:
        """The most probable class of each row `[N]`."""
        answers = self._log_probs(X).argmax(-1).numpy()
        return self.classes_[answers]

    def predict_proba(self, X: Any) -> Any:
        """Probabilities of the classes `[N, K]`, in the order of `classes_`."""
        return self._log_probs(X).exp().numpy()

    def predict_log_proba(self, X: Any) -> Any:
        """Log-probabilities of the classes `[N, K]`, in nats; -inf where one is exactly 0."""
        return self._log_probs(X).numpy()

    def retained_classes(self, X: Any, k: int = 5) -> tuple[Any, Any]:
        """The classes that the model considers for each row, those most surely retained first.

        Args:
            X: Rows `[N, D]`.
            k: How many; no more than there are.

        Returns:
            Classes `[N, k]` and the probabilities `[N, k]` that they are retained.

        Raises:
            ValueError: If the head has no gate.
        """
        _check.integer("k", k, low=1)
        scores = self._scores(X, correction=False)
        if scores.retain_logits is None:
            _check.fail("head", "have a gate", self.head, "choose dropmax")
        found = retained_classes(scores, k=k)
        return self.classes_[found.classes.numpy()], found.probabilities.numpy()

    def head_scores(self, X: Any) -> Scores:
        """The head's `Scores` of rows, `[N, K]` each in float64, for `dropmax.analysis`."""
        return self._scores(X, correction=True)

    def save(self, path: str | Path) -> None:
        """Write the classifier as one safetensors file, its parameters as JSON in the header."""
        check_is_fitted(self)
        storage.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> "DropMaxClassifier":
        """Read a classifier that `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            OSError: If it cannot be read.
            ValueError: If it is none of these.
        """
        loaded: DropMaxClassifier = storage.load(cls, Path(path))
        return loaded

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _begin(
        self, classes: Any, seed: int, record: Record | None, width: int, scarcity: float
    ) -> None:
        """An untrained network for rows of a width, and nothing of the last fit."""
        widths = widths_of(self, scarcity)
        self.network_ = make_network(width, widths, self.head, len(classes), seed)
        self.classes_ = classes
        self.record_ = record
        self._built = self.head, shape_of(self)
        self.n_iter_ = 0
        self.loss_curve_ = []
        for name in ("_optimizer", "validation_scores_"):
            self.__dict__.pop(name, None)

    def _log_probs(self, X: Any) -> Tensor:
        scores = self._scores(X, correction=False)
        return find_head(self.network_).log_probs(scores)

    def _scores(self, X: Any, *, correction: bool) -> Scores:
        check_is_fitted(self)
        if self.record_ is None:
            X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        else:
            validate_data(self, X, skip_check_array=True, reset=False)
            X = numbers(self.record_, X)
        network = copy.deepcopy(self.network_).double()
        rows = Rows(X, self.scaler_, torch.float64)
        return scores_of(network, rows, PREDICTED_AT_ONCE, correction=correction)
