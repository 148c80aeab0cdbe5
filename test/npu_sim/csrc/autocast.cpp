// Copyright (c) mmface authors. Licensed under the Apache License 2.0.
// torch.autocast('npu'): PyTorch's own lists of what runs in half and what in float32.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

namespace at::autocast {  // which is where PyTorch's macros look for the names they use
namespace {

Tensor refuse_binary_cross_entropy(const Tensor&, const Tensor&, const std::optional<Tensor>&,
                                   int64_t) {
  TORCH_CHECK(false, "binary_cross_entropy is unsafe to autocast: use ",
              "binary_cross_entropy_with_logits");
}

}  // namespace

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
#define IN_HALF(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
  AT_FORALL_LOWER_PRECISION_FP(IN_HALF)
#undef IN_HALF
#define IN_FLOAT(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
  AT_FORALL_FP32(IN_FLOAT)
#undef IN_FLOAT
#define TO_FLOAT(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
  AT_FORALL_FP32_SET_OPT_DTYPE(TO_FLOAT)
#undef TO_FLOAT
  AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(KERNEL_DIFFERENT_REDISPATCH_SIGNATURE_PRIVATEUSEONE)
#define IN_WIDEST(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
  AT_FORALL_PROMOTE(IN_WIDEST)
#undef IN_WIDEST
  m.impl("binary_cross_entropy", refuse_binary_cross_entropy);
}

}  // namespace at::autocast
