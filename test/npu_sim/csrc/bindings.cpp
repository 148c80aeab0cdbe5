// Copyright (c) mmface authors. Licensed under the Apache License 2.0.
// What the stub torch_npu calls.
#include "npusim.h"

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace py = pybind11;

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("device_count", [] { return int(npusim::device_count()); });
  m.def("current_device", [] { return int(npusim::current_device()); });
  m.def("set_device", [](int index) { npusim::set_current_device(index); });
  m.def("memory_allocated", [](int index) { return npusim::memory_use(index).now; });
  m.def("max_memory_allocated", [](int index) { return npusim::memory_use(index).peak; });
  m.def("reset_peak_memory", [](int index) { npusim::reset_peak_memory(index); });
  m.def("settle_autograd_threads", &npusim::settle_autograd_threads,
        py::call_guard<py::gil_scoped_release>());
  m.def("op_counts", &npusim::op_counts);
  m.def("wait_counts", &npusim::wait_counts);
  m.def("reset_counts", &npusim::reset_counts);
  // The wrapper of a Python function that pybind11 makes takes the lock of the interpreter.
  m.def("set_wait_listener", &npusim::set_wait_listener, py::arg("listener").none(true));
}
