"""What may not be packaged: the tolerance, its statistics, and who is named as the cause."""

from __future__ import annotations

import pytest

from edge.errors import ScanwrightError
from trainer.evaluation.layers import LayerError
from trainer.evaluation.paired import Drop, Drops, LabelDrops
from trainer.packaging.gate import check_drops


def drop(before: float, after: float, certainty: float = 1.0) -> Drop:
    lost = before - after
    return Drop(before=before, after=after, low=lost - 0.01, high=lost + 0.01, certainty=certainty)


def drops(overall: Drop | None = None, metric: str = "auroc", **per_class: LabelDrops) -> Drops:
    whole = overall or drop(0.95, 0.95, 0.4)
    return Drops.model_validate({"metric": metric, "n": 85, "overall": whole, "per_class": per_class})


@pytest.mark.parametrize(
    ("before", "after", "certainty", "passes"),
    [
        (0.950, 0.950, 0.5, True),
        (0.950, 0.960, 0.0, True),
        (0.950, 0.946, 1.0, True),  # certain, but within the tolerance
        (0.950, 0.944, 0.90, True),  # beyond it, but as likely as not chance
        (0.950, 0.944, 0.96, False),
        (0.950, 0.929, 0.60, False),  # beyond the hard limit, whatever the images can tell
    ],
)
def test_a_drop_is_refused_when_it_is_beyond_the_tolerance_and_no_chance(
    before: float, after: float, certainty: float, passes: bool
) -> None:
    judged = drops(drop(before, after, certainty))
    if passes:
        check_drops("run", judged)
        return
    with pytest.raises(ScanwrightError, match=rf"^run: refused, .* AUROC {before:.4f} as float, {after:.4f}"):
        check_drops("run", judged)


def test_a_class_that_is_never_found_any_more_is_refused_for_certain() -> None:
    lost = LabelDrops(n=3, sensitivity=drop(1 / 3, 0.0, 0.7))
    with pytest.raises(ScanwrightError, match=r"sensitivity of 'rare' 0\.3333 as float, 0\.0000 .*3 images"):
        check_drops("run", drops(rare=lost))
    never_found = LabelDrops(n=3, sensitivity=drop(0.0, 0.0, 0.0))
    check_drops("run", drops(rare=never_found))


def test_a_class_may_not_be_paid_for_by_the_others() -> None:
    worse = LabelDrops(n=40, auroc=drop(0.9, 0.88, 0.99))
    with pytest.raises(ScanwrightError, match="AUROC of 'nodule'"):
        check_drops("run", drops(nodule=worse))
    less = LabelDrops(n=40, sensitivity=drop(0.9, 0.8, 0.99))
    with pytest.raises(ScanwrightError, match="sensitivity of 'nodule'"):
        check_drops("run", drops(nodule=less))


def test_many_classes_share_the_doubt() -> None:
    worse = LabelDrops(n=40, auroc=drop(0.9, 0.88, 0.96))
    with pytest.raises(ScanwrightError, match="'a'"):
        check_drops("run", drops(a=worse))
    check_drops("run", drops(a=worse, **{str(other): LabelDrops(n=40) for other in range(9)}))


def test_segmentation_is_judged_by_dice() -> None:
    with pytest.raises(ScanwrightError, match=r"held-out Dice 0\.8000 as float, 0\.7900"):
        check_drops("run", drops(drop(0.8, 0.79), metric="dice"))
    gone = LabelDrops(n=12, dice=drop(0.4, 0.0, 0.9))
    with pytest.raises(ScanwrightError, match="Dice of 'liver'"):
        check_drops("run", drops(metric="dice", liver=gone))


def test_the_layers_that_quantization_hurts_most_are_named_worst_first() -> None:
    layers = [
        LayerError(layer=f"stage{n}", operator="CONV_2D", added=0.5 - n / 10, error=0.6) for n in range(4)
    ]
    bad = drops(drop(0.95, 0.9))
    with pytest.raises(ScanwrightError, match=r"stage0 \(CONV_2D, error 50% of its signal\), stage1") as said:
        check_drops("run", bad, layers=layers)
    assert "stage3" not in str(said.value)


def test_pruning_is_named_where_it_took_most() -> None:
    bad, layers = drops(drop(0.95, 0.9)), [LayerError(layer="a", operator="CONV_2D", added=0.1, error=0.1)]
    with pytest.raises(ScanwrightError, match=r"Pruning is to blame: 0\.9100 before quantization"):
        check_drops("run", bad, pruned=drops(drop(0.95, 0.91)), layers=layers)
    with pytest.raises(ScanwrightError, match="Quantization is to blame, most in: a"):
        check_drops("run", bad, pruned=drops(drop(0.95, 0.949)), layers=layers)


def test_nothing_measured_is_nothing_shown() -> None:
    with pytest.raises(ScanwrightError, match="AUROC is undefined"):
        check_drops("run", Drops(metric="auroc", n=0))
