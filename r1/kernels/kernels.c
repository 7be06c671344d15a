// What is compiled: every kernel, once for each dtype (-DDTYPE_BITS=16 or 32). See native.py.
#include "vectors.h"
#include "team.h"

#if DTYPE_BITS == 16
#include "dtype_bf16.h"
#else
#include "dtype_f32.h"
#endif
#include "attention.h"
#include "linear.h"
#include "large_linear.h"
#include "quantized.h"
#include "products.h"
#include "pointwise.h"
#include "pointwise_backward.h"
#include "layers.h"
#include "experts.h"
#include "experts_backward.h"
#include "sampling.h"
#include "segments.h"
#include "targets.h"

#if DTYPE_BITS == 16
// Calls no OpenMP: it runs where there may be no runtime.
int r1_self_test(void) {
    float16 ones = broadcast(1.0f);
    return (int)(sum_lanes(exp_lanes(ones - ones)) + 26.5f);
}
#endif
