"""Fitted policies as plain arrays and JSON: written, checked and read back. Never a pickle.

An artifact is one ``.npz`` (zip of arrays) that holds everything, the manifest among it as JSON
text. Its digest is part of it and checked when it is read: this finds damage and accidents, it
is no signature.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cost_models.types import Arm
from policies.encoding import NUMERIC_NAMES
from policies.errors import PolicyNotReadyError
from policies.families import Coefficients
from policies.fitted_features import FittedFeatures
from policies.group_relative import Correction, GroupRelativePolicy, learned_policy
from policies.heads import AmountHead, Calibration, SuccessHead
from policies.predictor import Novelty, Predictor
from policies.recipes import recipe_from_dict
from policies.utility import Mixture, UtilityPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from policies.recipes import Recipe

FORMAT = 2
LEARNED_FORMAT = 3
"""Of policies that are more than the utility rule: who reads only 2 must not serve them."""
FORMATS = (FORMAT, LEARNED_FORMAT)
POLICY_FILE = "policy.npz"
MANIFEST_FILE = "manifest.json"
HEADER = "header"
DIGEST = "digest"
VERSION_CHARS = 12
HEADS = ("tokens", "cost")
GROUP_RELATIVE = "group-relative"
CORRECTION = "correction"

Arrays = dict[str, "NDArray[Any]"]


@dataclass(frozen=True, slots=True)
class FittedPolicy:
    """An estimator and the policy that was tuned on it; ``manifest`` tells how (plain JSON).

    ``recipes`` are the derived arms among those of the estimator.
    """

    estimator: Predictor
    policy: UtilityPolicy
    manifest: Mapping[str, Any]
    recipes: tuple[Recipe, ...] = ()

    @property
    def version(self) -> str:
        """Name of this very policy: a short hash of all that it consists of."""
        return self.policy.version


def assemble(
    estimator: Predictor,
    policy: UtilityPolicy,
    manifest: Mapping[str, Any],
    recipes: tuple[Recipe, ...] = (),
) -> FittedPolicy:
    """Put a fitted policy together and give it its version."""
    digest = _digest(*_parts(estimator, policy, manifest, recipes))
    named = _with_version(policy, digest)
    return FittedPolicy(estimator, named, {**manifest, "version": named.version}, recipes)


def to_bytes(fitted: FittedPolicy) -> bytes:
    """Write a fitted policy; the same policy always gives the same bytes."""
    parts = (fitted.estimator, fitted.policy, fitted.manifest, fitted.recipes)
    header, arrays = _parts(*parts)
    digest = _digest(header, arrays)
    sink = io.BytesIO()
    texts = {HEADER: _text(header), DIGEST: _text(digest)}
    np.savez_compressed(sink, allow_pickle=False, **texts, **arrays)
    return sink.getvalue()


def from_bytes(data: bytes) -> FittedPolicy:
    """Read what `to_bytes` wrote; PolicyNotReadyError if it is damaged or of another format."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        text, digest = (arrays.pop(name).tobytes().decode() for name in (HEADER, DIGEST))
        header = json.loads(text)
        found = header["format"]
        if found not in FORMATS or header["numeric_names"] != list(NUMERIC_NAMES):
            msg = f"the policy has format {found!r}, this version reads {FORMATS}; fit it again"
            raise PolicyNotReadyError(msg)
        if _digest(text, arrays) != digest:
            msg = "the policy is damaged: its content does not match its digest; fit it again"
            raise PolicyNotReadyError(msg)
        policy = _with_version(_policy(header["policy"], arrays), digest)
        manifest = {**header["manifest"], "version": policy.version}
        recipes = tuple(recipe_from_dict(plain) for plain in header["recipes"])
        return FittedPolicy(_estimator(header["estimator"], arrays), policy, manifest, recipes)
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        msg = f"the policy cannot be read: {error}; fit it again"
        raise PolicyNotReadyError(msg) from error


def save(fitted: FittedPolicy, directory: Path) -> None:
    """Write ``policy.npz`` and, for people, ``manifest.json`` into a directory, made if absent."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / POLICY_FILE).write_bytes(to_bytes(fitted))
    text = json.dumps(fitted.manifest, indent=2, sort_keys=True, ensure_ascii=False)
    (directory / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def load(directory: Path) -> FittedPolicy:
    """Read what `save` wrote; PolicyNotReadyError if it is missing, damaged or does not agree."""
    try:
        data = (directory / POLICY_FILE).read_bytes()
        manifest = json.loads((directory / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"no fitted policy can be read in {directory}: {error}"
        raise PolicyNotReadyError(msg) from error
    fitted = from_bytes(data)
    if manifest != fitted.manifest:
        msg = f"{directory / MANIFEST_FILE} does not belong to the {POLICY_FILE} beside it"
        raise PolicyNotReadyError(msg)
    return fitted


def _with_version(policy: UtilityPolicy, digest: str) -> UtilityPolicy:
    return replace(policy, version=digest[:VERSION_CHARS])


def _parts(
    estimator: Predictor,
    policy: UtilityPolicy,
    manifest: Mapping[str, Any],
    recipes: tuple[Recipe, ...],
) -> tuple[str, Arrays]:
    """Give the header (JSON text) and the arrays that make up a policy, without its version."""
    arrays: Arrays = {
        "mean": estimator.features_.mean_,
        "scale": estimator.features_.scale_,
        "idf": estimator.features_.idf_,
        "directions": estimator.features_.directions_.astype(np.float32),
        "centre": estimator.features_.centre_,
        "clusters": estimator.features_.clusters_.astype(np.float32),
    }
    success = estimator.success_
    names = {"success": _put(arrays, "success", success.coefficients)}
    amounts = {}
    for name, head in zip(HEADS, (estimator.tokens_, estimator.cost_), strict=True):
        if head is not None:
            names[name] = _put(arrays, name, head.coefficients)
            amounts[name] = {"smear": head.smear, "low": head.low, "high": head.high}
    correction = policy.correction if isinstance(policy, GroupRelativePolicy) else None
    learned: dict[str, Any] = {}
    if correction is not None:
        arrays[CORRECTION] = correction.weights
        learned = {
            "kind": GROUP_RELATIVE,
            "arms": [str(arm) for arm in correction.arms],
            "prices": [correction.low_per_usd, correction.high_per_usd],
            "temperature": correction.temperature,
        }
    header = {
        "format": FORMAT if correction is None else LEARNED_FORMAT,
        "numeric_names": NUMERIC_NAMES,
        "estimator": {
            "parameters": estimator.get_params(),
            "arms": [str(arm) for arm in estimator.arms_],
            "observed": [str(arm) for arm in estimator.observed_],
            "unit": estimator.features_.unit_,
            "novelty": [estimator.novelty_.familiar, estimator.novelty_.strange],
            "slope": success.calibration.slope,
            "shift": success.calibration.shift,
            "names": names,
            "amounts": amounts,
        },
        "policy": {
            "shadow_price_per_usd": policy.shadow_price_per_usd,
            "safe_arm": str(policy.safe_arm),
            "epsilon": policy.epsilon,
            "accuracy_target": policy.accuracy_target,
            "left_out": sorted(map(str, policy.left_out)),
            "gate": policy.gate,
            "mixture": None if policy.mixture is None else policy.mixture.to_dict(),
            **learned,
        },
        "recipes": [recipe.to_dict() for recipe in recipes],
        "manifest": {name: value for name, value in manifest.items() if name != "version"},
    }
    return json.dumps(header, sort_keys=True, ensure_ascii=True, allow_nan=False), arrays


def _put(arrays: Arrays, head: str, coefficients: Coefficients) -> dict[str, list[str]]:
    """Add the coefficients of a head to ``arrays``; give the names of their rows by level."""
    arrays[f"{head}.shared"] = coefficients.shared
    levels = {
        "models": coefficients.models,
        "strategies": coefficients.strategies,
        "own": coefficients.own,
    }
    for level, members in levels.items():
        arrays[f"{head}.{level}"] = np.array(list(members.values()))
    return {level: list(members) for level, members in levels.items()}


def _take(arrays: Arrays, head: str, names: Mapping[str, list[str]]) -> Coefficients:
    levels = {
        level: dict(zip(members, arrays[f"{head}.{level}"], strict=True))
        for level, members in names.items()
    }
    return Coefficients(
        arrays[f"{head}.shared"], levels["models"], levels["strategies"], levels["own"]
    )


def _estimator(header: Mapping[str, Any], arrays: Arrays) -> Predictor:
    names = header["names"]
    heads = {
        name: AmountHead(_take(arrays, name, names[name]), **amount)
        for name, amount in header["amounts"].items()
    }
    features = FittedFeatures(header["parameters"]["n_buckets"])
    features.mean_, features.scale_ = arrays["mean"], arrays["scale"]
    features.idf_, features.centre_ = arrays["idf"], arrays["centre"]
    features.directions_ = arrays["directions"].astype(np.float64)
    features.unit_ = float(header["unit"])
    features.clusters_ = arrays["clusters"].astype(np.float64)
    return Predictor(header["parameters"]).restore(
        arms=[Arm.parse(text) for text in header["arms"]],
        observed=[Arm.parse(text) for text in header["observed"]],
        features=features,
        success=SuccessHead(
            _take(arrays, "success", names["success"]),
            Calibration(header["slope"], header["shift"]),
        ),
        tokens=heads.get("tokens"),
        cost=heads.get("cost"),
        novelty=Novelty(*header["novelty"]),
    )


def _policy(header: Mapping[str, Any], arrays: Arrays) -> UtilityPolicy:
    mixture = header.get("mixture")
    rule = UtilityPolicy(
        shadow_price_per_usd=header["shadow_price_per_usd"],
        safe_arm=Arm.parse(header["safe_arm"]),
        epsilon=header["epsilon"],
        accuracy_target=header["accuracy_target"],
        left_out=frozenset(Arm.parse(text) for text in header["left_out"]),
        gate=header.get("gate"),
        mixture=None if mixture is None else Mixture(**mixture),
    )
    kind = header.get("kind")
    if kind is None:
        return rule
    if kind != GROUP_RELATIVE:
        msg = f"no policy of kind {kind!r} is known"
        raise ValueError(msg)
    low, high = header["prices"]
    arms = tuple(Arm.parse(text) for text in header["arms"])
    correction = Correction(arms, arrays[CORRECTION], low, high, header["temperature"])
    return learned_policy(rule, correction)


def _text(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _digest(header: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over the header and every array with its name, type and shape."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"|{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
