#define QKV_NAME "avx512"
#define QKV_KERNEL kernel_avx512
#define QKV_BACKWARD backward_avx512
#define QKV_VECTOR_BYTES 64
#define QKV_ROWS 8     // a block of sums in registers:
#define QKV_VECTORS 2  // rows of scalars x vectors of queries
#include QKV_PASS
