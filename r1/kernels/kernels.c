// The one file that is compiled: every kernel for both dtypes. See native.py.
#include "vectors.h"

#include "dtype_bf16.h"
#include "attention.h"
#include "linear.h"
#include "pointwise.h"
#include "pointwise_backward.h"
#include "quantized.h"
#include "sampling.h"
#include "segments.h"
#include "targets.h"
#include "dtype_end.h"

#include "dtype_f32.h"
#include "attention.h"
#include "linear.h"
#include "pointwise.h"
#include "pointwise_backward.h"
#include "quantized.h"
#include "sampling.h"
#include "segments.h"
#include "targets.h"
#include "dtype_end.h"

// Calls no OpenMP: it runs where there may be no runtime.
int r1_self_test(void) {
    float16 ones = broadcast(1.0f);
    return (int)(sum_lanes(exp_lanes(ones - ones)) + 26.5f);
}
