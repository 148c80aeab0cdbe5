// Copyright (c) mmface authors. Licensed under the Apache License 2.0.
// One unit for the compiler: reading PyTorch's headers is what takes the time, and so they are
// read once.
#include "autocast.cpp"
#include "bindings.cpp"
#include "compute.cpp"
#include "counters.cpp"
#include "device.cpp"
#include "tensors.cpp"
