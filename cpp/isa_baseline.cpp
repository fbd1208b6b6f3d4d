// What every processor of the kind runs: 16 registers of 16 bytes on x86-64, 32 of them on ARM.
#define QKV_NAME "baseline"
#define QKV_KERNEL kernel_baseline
#define QKV_BACKWARD backward_baseline
#define QKV_VECTOR_BYTES 16
#if defined(__aarch64__)
#define QKV_ROWS 8  // a block of sums in registers:
#else
#define QKV_ROWS 4
#endif
#define QKV_VECTORS 2  // rows of scalars x vectors of queries
#include QKV_PASS
