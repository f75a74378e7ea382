// The sparsity penalty, alone and fused with the sigmoid, against sums in double.
#include "harness.h"

namespace deconvkit::testing {
namespace {

struct SparseCase {
  int64_t batch = 1, outer = 1, units = 1, inner = 1;
  DType dtype = DType::kFloat32, compute = DType::kFloat32;
  double rho = 0.5, beta = 1;
  int threads = 1;

  int64_t samples() const { return outer * inner; }
  Sizes sizes() const { return {batch, outer, units, inner}; }
};

SparseCase any_case(Random& random) {
  SparseCase c;
  c.batch = random.between(1, 3);
  c.outer = random.between(1, 9);
  c.units = random.one_in(3) ? 8 * random.between(1, 5) : random.between(1, 40);
  c.inner = random.one_in(2) ? 1 : random.one_in(3) ? 8 * random.between(4, 9) : random.between(2, 40);
  switch (random.between(0, 30)) {
    case 0:  // many blocks
      c.outer = random.between(4000, 9000), c.units = random.between(1, 5), c.inner = 1;
      break;
    case 1:  // planes in chunks
      c.outer = random.between(1, 3), c.units = 2, c.inner = random.between(4000, 9000);
      break;
    case 2:  // several tiles
      c.outer = 3, c.units = random.between(1000, 2100), c.inner = random.between(1, 2);
      break;
  }
  if (random.one_in(8)) {  // one unit's plane: only `inner` says whether groups come out even, no stride
    c.batch = 1, c.outer = random.one_in(3) ? 2 : 1, c.units = 1, c.inner = random.between(32, 75);
  }
  if (random.one_in(20)) c.outer = 0;
  c.dtype = any_float(random);
  if (random.one_in(150)) {  // streamed: whole lines or not, rows or planes
    const int64_t row = random.any_of({int64_t{1024}, random.between(1000, 2000)});
    c.batch = 1;
    c.units = random.one_in(2) ? row : 3;
    c.inner = c.units == row ? 1 : row;
    c.outer = (int64_t{16} << 20) / bytes_of(c.dtype) / (c.units * c.inner) + 1;
  }
  c.compute = c.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  c.rho = random.any_of({0.01, 0.3, 0.9});
  c.beta = random.any_of({1.0, -2.0, 3.0});
  c.threads = static_cast<int>(random.between(1, 3));
  describe("%s (%d, %d, %d, %d) rho %g beta %g threads %d", name_of(c.dtype), int(c.batch), int(c.outer),
           int(c.units), int(c.inner), c.rho, c.beta, c.threads);
  return c;
}

Layout any_rows(Random& random) { return random.one_in(2) ? Layout::kRowsApart : Layout::kContiguous; }

// Of a tensor's first element: aligned or not.
int64_t any_offset(Random& random) { return random.one_in(2) ? 0 : random.between(1, 2); }

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

// Now and then far out, but with sums that float32 still holds.
std::function<double()> logits(Random& random) {
  return [&random] { return random.one_in(50) ? random.any_of({-60.0, 60.0}) : 12 * random.uniform() - 6; };
}

void expect_near(const char* what, int64_t i, double got, double expected, double tolerance) {
  EXPECT(std::fabs(got - expected) <= tolerance, "%s %d: expected %.9g +- %.1g, got %.9g", what, int(i),
         expected, tolerance, got);
}

struct Sums {
  double on, off;
};

// Σ on and Σ off of each unit of each problem.
std::vector<Sums> sums_of(const SparseCase& c, const Tensor& input, bool logits) {
  std::vector<Sums> sums(c.batch * c.units);
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t j = 0; j < c.units; ++j)
      for (int64_t o = 0; o < c.outer; ++o)
        for (int64_t i = 0; i < c.inner; ++i) {
          const double x = input.get({b, o, j, i});
          sums[b * c.units + j].on += logits ? sigmoid(x) : x;
          sums[b * c.units + j].off += logits ? sigmoid(-x) : 1 - x;
        }
  return sums;
}

// Checks Σ_j KL and the slopes. Means of 0 count as the smallest normal number; slopes stay finite.
void check_penalty(const SparseCase& c, const std::vector<Sums>& sums, double scale, const Tensor& penalty,
                   const Tensor& slope) {
  const bool wide = c.compute == DType::kFloat64;
  const double relative = wide ? 1e-11 : 2e-5, least = wide ? 0x1p-1022 : 0x1p-126, most = 1 / least;
  for (int64_t b = 0; b < c.batch; ++b) {
    double total = 0, magnitude = 0;
    for (int64_t j = 0; j < c.units; ++j) {
      const double on = std::fmax(sums[b * c.units + j].on / static_cast<double>(c.samples()), least);
      const double off = std::fmax(sums[b * c.units + j].off / static_cast<double>(c.samples()), least);
      total += c.rho * std::log(c.rho / on) + (1 - c.rho) * std::log((1 - c.rho) / off);
      magnitude += std::fabs(std::log(c.rho / on)) + std::fabs(std::log((1 - c.rho) / off));
      const double down = c.rho / on, up = (1 - c.rho) / off;
      const double unit = c.beta * scale / static_cast<double>(c.samples());
      expect_near("slope", b * c.units + j, slope.flat(b * c.units + j),
                  std::fmax(-most, std::fmin(unit * (up - down), most)),
                  relative * std::fmin(std::fabs(unit) * (up + down), most));
    }
    EXPECT(c.beta * penalty.flat(b) >= 0, "a divergence below zero: %g", penalty.flat(b) / c.beta);
    expect_near("penalty", b, penalty.flat(b), c.beta * total,
                relative * (std::fabs(c.beta) * magnitude + static_cast<double>(c.units)));
  }
}

void check_sums(const SparseCase& c, const std::vector<Sums>& expected, const Tensor& sums) {
  const double relative = c.compute == DType::kFloat64 ? 1e-12 : 1e-5;
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t j = 0; j < c.units; ++j) {
      const Sums& e = expected[b * c.units + j];
      expect_near("sum", j, sums.get({b, 0, j}), e.on, relative * e.on);
      expect_near("complement", j, sums.get({b, 1, j}), e.off, relative * e.off);
    }
}

// Runs sparse_sigmoid (with an output) or sparse_kl (without one) to sums or to penalty and slope.
template <class Run>
void check_forward(Random& random, const SparseCase& c, const Tensor& input, bool logits, Run&& run) {
  const std::vector<Sums> expected = sums_of(c, input, logits);
  if (random.one_in(3) || c.outer == 0) {
    Tensor sums(DType::kFloat64, {c.batch, 2, c.units}, Tensor::kOutput);
    run(sums, Tensor(), Tensor());
    EXPECT(sums.intact(), "wrote outside the sums");
    check_sums(c, expected, sums);
    return;
  }
  Tensor penalty(c.compute, {c.batch}, Tensor::kOutput),
      slope(c.compute, {c.batch, c.units}, Tensor::kOutput);
  run(Tensor(), penalty, slope);
  EXPECT(penalty.intact() && slope.intact(), "wrote outside an output");
  check_penalty(c, expected, 1, penalty, slope);
}

}  // namespace

NATIVE_TEST(sparse_sigmoid) {
  const SparseCase c = any_case(random);
  Tensor z(c.dtype, c.sizes(), Tensor::kInput, any_rows(random), any_offset(random));
  Tensor activations(c.dtype, c.sizes(), Tensor::kOutput, any_rows(random), any_offset(random));
  z.fill(logits(random));
  check_forward(random, c, z, true, [&](const Tensor& sums, const Tensor& penalty, const Tensor& slope) {
    kernels.sparse_sigmoid(z, activations, sums, penalty, slope, c.rho, c.beta, c.threads);
  });
  EXPECT(activations.intact(), "wrote outside the activations");
  const double rounding = c.compute == DType::kFloat64 ? 0x1p-51 : 0x1p-22;
  for (int64_t i = 0; i < z.numel(); ++i) {
    const double a = sigmoid(z.flat(i));
    expect_near("activation", i, activations.flat(i), a,
                (rounding + epsilon_of(c.dtype)) * a + (c.dtype == DType::kFloat16 ? 0x1p-24 : 0x1p-126));
  }
}

NATIVE_TEST(sparse_kl) {
  const SparseCase c = any_case(random);
  Tensor activations(c.dtype, c.sizes(), Tensor::kInput, any_rows(random), any_offset(random));
  activations.fill([&] { return 0.05 + 0.9 * random.uniform(); });
  for (int64_t j = 0; j < c.units; ++j) {  // a unit that is never on, or always
    if (!random.one_in(10)) continue;
    const double value = random.any_of({0.0, 1.0});
    for (int64_t o = 0; o < c.outer; ++o)
      for (int64_t i = 0; i < c.inner; ++i) activations.set({0, o, j, i}, value);
  }
  check_forward(random, c, activations, false,
                [&](const Tensor& sums, const Tensor& penalty, const Tensor& slope) {
                  kernels.sparse_kl(activations, sums, penalty, slope, c.rho, c.beta, c.threads);
                });
}

NATIVE_TEST(sparse_kl_from_sums) {
  SparseCase c = any_case(random);
  c.batch = 1;
  c.outer = 1 + c.outer;
  Tensor sums(DType::kFloat64, {2, c.units}, Tensor::kInput);
  std::vector<Sums> expected(c.units);
  const bool on_target = random.one_in(4);  // where rounding decides the divergence's sign
  for (int64_t j = 0; j < c.units; ++j) {
    const double mean = on_target           ? c.rho * (1 + 1e-15 * random.uniform())
                        : random.one_in(10) ? random.any_of({0.0, 1.0})
                                            : 0.001 + 0.99 * random.uniform();
    const double samples = static_cast<double>(c.samples());
    // Now and then so nearly always on that a difference of sums would not tell how nearly.
    const double rest = !on_target && random.one_in(10) ? 1e-12 : 1 - mean;
    expected[j] = {(rest == 1e-12 ? 1 - rest : mean) * samples, rest * samples};
    sums.set({0, j}, expected[j].on);
    sums.set({1, j}, expected[j].off);
  }
  Tensor penalty(c.compute, {1}, Tensor::kOutput), slope(c.compute, {c.units}, Tensor::kOutput);
  const double scale = random.any_of({1.0, 4.0});
  kernels.sparse_kl_from_sums(sums, penalty, slope, static_cast<double>(c.samples()), scale, c.rho, c.beta);
  EXPECT(penalty.intact() && slope.intact(), "wrote outside an output");
  check_penalty(c, expected, scale, penalty, slope);
}

NATIVE_TEST(sparse_sigmoid_backward) {
  const SparseCase c = any_case(random);
  Tensor z(c.dtype, c.sizes(), Tensor::kInput, any_rows(random), any_offset(random));
  z.fill(logits(random));
  Tensor grad_activations, slope(c.compute, {c.batch, c.units}, Tensor::kInput), grad_penalty;
  slope.fill(plain_values(random));
  if (random.one_in(2)) {
    grad_activations = Tensor(c.dtype, c.sizes(), Tensor::kInput, any_rows(random), any_offset(random));
    grad_activations.fill(plain_values(random));
  }
  if (random.one_in(2)) {
    grad_penalty = Tensor(c.compute, {c.batch}, Tensor::kInput);
    grad_penalty.fill(plain_values(random));
  }
  const double most = c.compute == DType::kFloat64 ? 0x1p1022 : 0x1p126;
  // Now and then a slope as of a mean of 0, whose product overflows; it is bounded, beyond float16 yet.
  if (grad_penalty.ref() && c.dtype != DType::kFloat16 && random.one_in(4)) {
    grad_penalty.set({0}, random.any_of({-8.0, 8.0}));
    slope.set({0, random.between(0, c.units - 1)}, most);
  }
  Tensor grad_z(c.dtype, c.sizes(), Tensor::kOutput, any_rows(random), any_offset(random));
  kernels.sparse_sigmoid_backward(grad_activations, z, slope, grad_penalty, grad_z, c.threads);
  EXPECT(grad_z.intact(), "wrote outside the output");
  const double rounding = c.compute == DType::kFloat64 ? 0x1p-50 : 0x1p-21;
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t o = 0; o < c.outer; ++o)
      for (int64_t j = 0; j < c.units; ++j)
        for (int64_t i = 0; i < c.inner; ++i) {
          const double x = z.get({b, o, j, i});
          const double g = grad_activations.ref() ? grad_activations.get({b, o, j, i}) : 0;
          const double by_penalty = grad_penalty.ref() ? grad_penalty.get({b}) * slope.get({b, j}) : 0;
          const double p = std::fmax(-most, std::fmin(by_penalty, most));
          const double want = sigmoid(x) * sigmoid(-x) * (g + p);
          expect_near("gradient", o * c.units + j, grad_z.get({b, o, j, i}), want,
                      rounding * sigmoid(x) * sigmoid(-x) * (std::fabs(g) + std::fabs(p)) +
                          epsilon_of(c.dtype) * std::fabs(want) +
                          (c.dtype == DType::kFloat16 ? 0x1p-24 : 0x1p-126));
        }
}

}  // namespace deconvkit::testing
