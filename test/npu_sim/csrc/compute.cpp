// Copyright (c) mmface authors. Licensed under the Apache License 2.0.
// The operators that compute: a few of our own, all others on the CPU by the boxed fallback.
#include "npusim.h"

#include <ATen/native/CPUFallback.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/native_batch_norm.h>
#include <torch/library.h>

#include <array>
#include <set>
#include <tuple>

namespace npusim {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

// Refuse arguments of several devices, as a real device does. Without this the CPU would compute
// what fails on an NPU: the commonest fault in NPU ports would not be seen.
class SameDevice {
 public:
  explicit SameDevice(std::string op) : op_(std::move(op)) {}

  void operator()(const at::Tensor& tensor) {
    // A CPU tensor without dimensions is a number.
    if (!tensor.defined() || (tensor.is_cpu() && tensor.dim() == 0)) return;
    if (!device_) device_ = tensor.device();
    TORCH_CHECK(*device_ == tensor.device(),
                "Expected all tensors to be on the same device, but ", op_, " found at least two: ",
                *device_, " and ", tensor.device());
  }
  void operator()(const OptionalTensor& tensor) {
    if (tensor) (*this)(*tensor);
  }

 private:
  std::string op_;
  std::optional<c10::Device> device_;
};

// Operators that take indices, which may stay on the CPU for a tensor on a device.
bool takes_indices(const std::string& name) {
  static const std::set<std::string> names{
      "aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_",
      "aten::_unsafe_index", "aten::_unsafe_index_put"};
  return names.count(name) > 0;
}

void check_devices(const std::string& name, c10::ArrayRef<c10::IValue> arguments) {
  SameDevice check(name);
  for (const auto& value : arguments) {
    if (value.isTensor()) {
      check(value.toTensor());
    } else if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorVector()) check(tensor);
    } else if (value.isOptionalTensorList() && !takes_indices(name)) {
      for (const auto& tensor : value.toOptionalTensorVector()) check(tensor);
    }
  }
}

// Whether the shape of the result depends on values on the device, so that the host has to wait
// for them on every real device.
bool depends_on_values(const std::string& name, c10::ArrayRef<c10::IValue> arguments) {
  static const std::set<std::string> names{
      "aten::nonzero",     "aten::masked_select",      "aten::_unique",
      "aten::_unique2",    "aten::unique_dim",         "aten::unique_consecutive",
      "aten::bincount",    "aten::repeat_interleave",  "aten::unique_dim_consecutive",
      "aten::equal"};
  if (names.count(name) > 0) return true;
  // PyTorch has called nonzero for the masks of "index" before it comes here.
  if (!takes_indices(name) || name == "aten::index") return false;
  for (const auto& value : arguments) {
    if (!value.isOptionalTensorList()) continue;
    for (const auto& tensor : value.toOptionalTensorVector()) {
      if (tensor && (tensor->scalar_type() == at::kBool || tensor->scalar_type() == at::kByte)) {
        return true;
      }
    }
  }
  return false;
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.schema().operator_name().name;
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  check_devices(name, arguments);
  count_op(name);
  if (depends_on_values(name, arguments)) note_wait(name.substr(name.rfind(':') + 1));
  const InsideKernel inside;
  at::native::cpu_fallback(op, stack);
}

at::Tensor to_device(const at::Tensor& tensor, c10::Device device) {
  return tensor.defined() ? tensor.to(device) : tensor;
}

OptionalTensor host_view_of(const OptionalTensor& tensor) {
  if (!tensor || !tensor->defined()) return std::nullopt;
  return host_view(*tensor);
}

// Half-precision products are added up in float32 and rounded once, which is how accelerators do
// it, and twenty times as fast on a CPU as its own half-precision convolutions.
bool is_half(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16;
}

at::Tensor in_float(const at::Tensor& tensor) {
  return tensor.defined() && is_half(tensor) ? tensor.to(at::kFloat) : tensor;
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight,
                       const OptionalTensor& bias, at::IntArrayRef stride, at::IntArrayRef padding,
                       at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding,
                       int64_t groups) {
  SameDevice check("convolution");
  check(input), check(weight), check(bias);
  TORCH_CHECK(input.scalar_type() == weight.scalar_type(), "Input type (", input.scalar_type(),
              ") and weight type (", weight.scalar_type(), ") should be the same");
  count_op(std::string("convolution.") + c10::toString(input.scalar_type()));
  const InsideKernel inside;
  auto host_bias = host_view_of(bias);
  if (host_bias) host_bias = in_float(*host_bias);
  const auto result =
      at::convolution(in_float(host_view(input)), in_float(host_view(weight)), host_bias, stride,
                      padding, dilation, transposed, output_padding, groups);
  return result.to(input.scalar_type()).to(input.device());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& weight,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
    at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> wanted) {
  SameDevice check("convolution_backward");
  check(grad), check(input), check(weight);
  count_op("convolution_backward");
  const InsideKernel inside;
  const std::vector<int64_t> bias_size{transposed ? weight.size(1) * groups : weight.size(0)};
  const auto result = at::convolution_backward(
      in_float(host_view(grad.contiguous())), in_float(host_view(input)),
      in_float(host_view(weight)), at::OptionalIntArrayRef(bias_size), stride, padding, dilation,
      transposed, output_padding, groups, wanted);
  const auto back = [&](const at::Tensor& tensor) {
    return tensor.defined() ? to_device(tensor.to(input.scalar_type()), input.device()) : tensor;
  };
  return {back(std::get<0>(result)), back(std::get<1>(result)), back(std::get<2>(result))};
}

// Changes the running statistics in place, but its schema does not say so, and the boxed fallback,
// which works on copies, would lose them. The host views are the statistics themselves.
std::tuple<at::Tensor, at::Tensor, at::Tensor> native_batch_norm(
    const at::Tensor& input, const OptionalTensor& weight, const OptionalTensor& bias,
    const OptionalTensor& running_mean, const OptionalTensor& running_var, bool training,
    double momentum, double eps) {
  SameDevice check("native_batch_norm");
  check(input), check(weight), check(bias), check(running_mean), check(running_var);
  count_op("native_batch_norm");
  const InsideKernel inside;
  const auto result = at::native_batch_norm(
      host_view(input), host_view_of(weight), host_view_of(bias), host_view_of(running_mean),
      host_view_of(running_var), training, momentum, eps);
  const auto device = input.device();
  return {to_device(std::get<0>(result), device), to_device(std::get<1>(result), device),
          to_device(std::get<2>(result), device)};
}

}  // namespace
}  // namespace npusim

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("convolution_overrideable", npusim::convolution);
  m.impl("convolution_backward_overrideable", npusim::convolution_backward);
  m.impl("native_batch_norm", npusim::native_batch_norm);
  // PyTorch puts these together from elementary operators on devices it does not know, which
  // rounds in other places. NPUs have kernels for them, and the CPU too.
  m.impl("native_group_norm", torch::CppFunction::makeFromBoxedFunction<&npusim::fallback>());
  m.impl("native_layer_norm", torch::CppFunction::makeFromBoxedFunction<&npusim::fallback>());
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&npusim::fallback>());
}
