// SPDX-License-Identifier: Apache-2.0
// The formulas of all ops of cpp/ops.def.
#pragma once

#define VM_FORMULAS
#include "cpp/ops.def"
#undef VM_FORMULAS
