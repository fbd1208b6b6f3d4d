#define QKV_NAME "avx2"
#define QKV_KERNEL kernel_avx2
#define QKV_BACKWARD backward_avx2
#define QKV_VECTOR_BYTES 32
#define QKV_ROWS 4     // a block of sums in registers:
#define QKV_VECTORS 3  // rows of scalars x vectors of queries
#include QKV_PASS
