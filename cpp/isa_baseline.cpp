#define QKV_NAME "baseline"
#define QKV_KERNEL kernel_baseline
#define QKV_VECTOR_BYTES 16
#define QKV_ROWS 4     // a block of sums in registers:
#define QKV_VECTORS 2  // rows of scalars x vectors of queries
#include "kernel.inl"
