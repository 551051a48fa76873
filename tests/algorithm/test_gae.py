import numpy as np
import pytest
import torch

from r1exp.algorithm.gae import Reduce, gae, length_adaptive_lambda, moments, whiten

GENERATOR = np.random.default_rng(0)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
REWARDS = GENERATOR.normal(size=MASK.shape)
VALUES = GENERATOR.normal(size=MASK.shape)


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(array) for array in arrays]


def advantages_by_definition(gamma: float, lam: float) -> np.ndarray:
    """Return A_t = sum_l (gamma lambda)^l delta_{t+l}, per completion and without recursion."""
    result = np.zeros(MASK.shape)
    for b, length in enumerate(MASK.sum(axis=1)):
        reward, value = REWARDS[b, :length], np.append(VALUES[b, :length], 0.0)
        delta = reward + gamma * value[1:] - value[:-1]
        for t in range(length):
            result[b, t] = sum((gamma * lam) ** k * delta[t + k] for k in range(length - t))
    return result


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (1.0, 0.95), (0.9, 0.5), (0.99, 0.0)])
def test_advantages_of_ragged_completions_equal_the_definition(gamma: float, lam: float) -> None:
    rewards, values, mask = tensors(REWARDS, VALUES, MASK)
    advantages, returns = gae(rewards, values, mask, gamma=gamma, lam=lam)
    expected = advantages_by_definition(gamma, lam)
    np.testing.assert_allclose(advantages.numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(returns.numpy(), (expected + VALUES) * MASK, atol=1e-12)


def test_two_tokens_computed_by_hand() -> None:
    # delta_1 = 1 - 0.5 = 0.5; delta_0 = 0 + 0.9 * 0.5 - 0.2 = 0.25; A_0 = 0.25 + 0.9 * 0.8 * 0.5
    advantages, returns = gae(
        torch.tensor([[0.0, 1.0]]), torch.tensor([[0.2, 0.5]]), torch.ones(1, 2), gamma=0.9, lam=0.8
    )
    assert advantages[0].tolist() == pytest.approx([0.61, 0.5])
    assert returns[0].tolist() == pytest.approx([0.81, 1.0])


def test_lambda_1_gamma_1_and_a_zero_critic_give_the_sum_of_future_rewards() -> None:
    rewards, mask = tensors(REWARDS, MASK)
    advantages, _ = gae(rewards, torch.zeros_like(rewards), mask, gamma=1.0, lam=1.0)
    expected = np.flip(np.cumsum(np.flip(REWARDS * MASK, axis=1), axis=1), axis=1) * MASK
    np.testing.assert_allclose(advantages.numpy(), expected, atol=1e-12)


def test_masked_tokens_inside_a_completion_are_skipped() -> None:
    def row(*values: float) -> torch.Tensor:
        return torch.tensor([values], dtype=torch.float64)

    with_gap, _ = gae(row(1, 9, 2, 3), row(4, 9, 5, 6), row(1, 0, 1, 1), gamma=0.9, lam=0.8)
    without, _ = gae(row(1, 2, 3), row(4, 5, 6), row(1, 1, 1), gamma=0.9, lam=0.8)
    assert with_gap[0, [0, 2, 3]].tolist() == pytest.approx(without[0].tolist())
    assert with_gap[0, 1] == 0.0


def test_whitening_equals_numpy_and_leaves_padding_at_zero() -> None:
    rewards, mask = tensors(REWARDS, MASK)
    whitened = whiten(rewards, mask)
    kept = REWARDS[MASK == 1]
    np.testing.assert_allclose(
        whitened.numpy()[MASK == 1], (kept - kept.mean()) / (kept.std() + 1e-8), atol=1e-12
    )
    assert (whitened.numpy()[MASK == 0] == 0.0).all()


def test_two_ranks_whiten_with_the_moments_of_both() -> None:
    slices = [tensors(REWARDS[:2], MASK[:2]), tensors(REWARDS[2:], MASK[2:])]
    kept = REWARDS[MASK == 1]
    # The sums over both ranks, as the collective returns them. The second pass needs the common mean.
    first = sum(
        torch.stack([(values * mask).sum(), mask.sum().double(), (values**2 * mask).sum()])
        for values, mask in slices
    )
    second = sum((((values - kept.mean()) ** 2) * mask).sum() for values, mask in slices)
    for values, mask in slices:
        sums = iter([first, second])
        mean, variance = moments(values, mask, lambda _, sums=sums: next(sums))  # type: ignore[misc]  # no type is inferred for a default
        assert mean.item() == pytest.approx(kept.mean(), abs=1e-12)
        assert variance.item() == pytest.approx(kept.var(), abs=1e-12)


@pytest.mark.parametrize(
    "mask", [pytest.param([[1, 1]], id="no variance"), pytest.param([[0, 0]], id="no token")]
)
def test_whitening_without_variance_or_tokens_gives_zeros(mask: list[list[int]]) -> None:
    assert whiten(torch.full((1, 2), 3.0), torch.tensor(mask)).tolist() == [[0.0, 0.0]]


def test_the_length_adaptive_lambda_equals_the_paper_and_stays_in_its_range() -> None:
    lengths = [1, 20, 21, 40, 200]
    mask = torch.zeros(len(lengths), 200)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    expected = [max(0.0, 1.0 - 1.0 / (0.05 * length)) for length in lengths]
    assert length_adaptive_lambda(mask, 0.05).tolist() == pytest.approx(expected, abs=1e-6)
    assert expected[-1] == pytest.approx(0.9)


def test_a_lambda_for_each_completion_equals_one_call_for_each() -> None:
    rewards, values, mask = tensors(REWARDS, VALUES, MASK)
    lambdas = torch.tensor([0.9, 0.5, 0.0, 1.0], dtype=torch.float64)
    together, _ = gae(rewards, values, mask, gamma=0.99, lam=lambdas)
    for row, lam in enumerate(lambdas.tolist()):
        np.testing.assert_allclose(
            together[row].numpy(), advantages_by_definition(0.99, lam)[row], atol=1e-12
        )


@pytest.mark.parametrize("value", [0.7, 0.1, 1 / 3, 5.3, -1e4, 1e-20])
def test_equal_values_are_whitened_to_exactly_zero(value: float) -> None:
    for number in range(2, 300):
        values, mask = torch.full((1, number), value), torch.ones(1, number)
        assert not whiten(values, mask).any()
        noise = torch.randint(-3, 4, (1, number)) * torch.finfo(torch.float32).eps * value
        assert not whiten(values + noise, mask).any()


def test_a_small_difference_that_is_no_rounding_is_kept() -> None:
    whitened = whiten(torch.tensor([[1000.0, 1000.1]]), torch.ones(1, 2))
    assert whitened.tolist() == [pytest.approx([-1.0, 1.0], abs=1e-3)]


def test_advantages_that_are_what_rounding_left_of_equal_numbers_are_no_signal() -> None:
    values = 5.0 + torch.rand(1, 50)
    left = (values * 3.0) / 3.0 - values  # the numbers and their size differ by seven orders of magnitude
    assert left.abs().max() > 0.0
    assert not whiten(left, torch.ones(1, 50), parts_bt=values).any()


def test_ranks_agree_that_equal_values_have_no_variance() -> None:
    parts = [torch.full((1, number), 0.7) for number in (7, 12)]
    whole = torch.cat(parts, dim=1)
    collected: list[list[torch.Tensor]] = [[], []]

    def keep(rank: int) -> Reduce:
        def reduce(numbers: torch.Tensor) -> torch.Tensor:
            collected[rank].append(numbers)
            return numbers

        return reduce

    for rank, values in enumerate(parts):
        moments(values, torch.ones_like(values), keep(rank))
    sums = [sum(of_ranks) for of_ranks in zip(*collected, strict=True)]
    for values in parts:
        answers = iter(sums)
        assert moments(values, torch.ones_like(values), lambda _, a=answers: next(a))[1] == 0.0  # type: ignore[misc]  # no type is inferred for a default
    assert moments(whole, torch.ones_like(whole), lambda numbers: numbers)[1] == 0.0
