#include "cuda/implicit_gemm_sm90.cuh"
#include "cuda/launch.cuh"

namespace deconvkit::cuda {

template <class Kernel>
bool can_run_sm90(const Stream& stream) {
  return DeviceLauncher(stream).can_run<Kernel>();
}
template <class Kernel>
void launch_sm90(const Kernel& kernel, int64_t tiles, const Stream& stream) {
  const DeviceLauncher launch(stream);
  launch(kernel, tiles);
}

#define DECONVKIT_INSTANTIATE(T, columns)                                                               \
  template bool can_run_sm90<ImplicitGemmSm90<T, columns>>(const Stream&);                              \
  template void launch_sm90<ImplicitGemmSm90<T, columns>>(const ImplicitGemmSm90<T, columns>&, int64_t, \
                                                          const Stream&);
DECONVKIT_INSTANTIATE(BFloat16, GemmTiles::kNarrow)
DECONVKIT_INSTANTIATE(BFloat16, GemmTiles::kMiddle)
DECONVKIT_INSTANTIATE(BFloat16, GemmTiles::kWide)
DECONVKIT_INSTANTIATE(Float16, GemmTiles::kNarrow)
DECONVKIT_INSTANTIATE(Float16, GemmTiles::kMiddle)
DECONVKIT_INSTANTIATE(Float16, GemmTiles::kWide)

}  // namespace deconvkit::cuda
