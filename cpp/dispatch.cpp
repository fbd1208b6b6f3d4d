#include "dispatch.h"

#include <cstdlib>
#include <stdexcept>

namespace qkv {

extern const Kernel kernel_baseline;
#if defined(QKV_X86)
extern const Kernel kernel_avx2, kernel_avx512, kernel_avx512_bf16;
#endif

namespace {

struct Candidate {
    const Kernel *kernel;
    bool runs;
};

std::vector<Candidate> candidates() {
#if defined(QKV_X86)
    __builtin_cpu_init();
    // The features of x86-64-v3 and -v4 that compilers make use of.
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                      __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
    return {{&kernel_baseline, true}, {&kernel_avx2, avx2}, {&kernel_avx512, avx512}, {&kernel_avx512_bf16, bf16}};
#else
    return {{&kernel_baseline, true}};
#endif
}

std::string listed(const std::vector<std::string> &names) {
    std::string text;
    for (const std::string &name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

const Kernel &choose() {
    const Kernel *widest = nullptr;
    const char *wanted = std::getenv("QKV_ISA");
    const bool named = wanted && *wanted;
    for (const Candidate &candidate : candidates()) {
        if (!candidate.runs) continue;
        widest = candidate.kernel;
        if (named && std::string(wanted) == candidate.kernel->name) return *candidate.kernel;
    }
    if (named)
        throw std::runtime_error("QKV_ISA: expected one of the instruction sets that this machine runs (" +
                                 listed(available_kernels()) + "), got '" + wanted +
                                 "'; unset it to have the widest chosen");
    return *widest;
}

}  // namespace

std::vector<std::string> available_kernels() {
    std::vector<std::string> names;
    for (const Candidate &candidate : candidates())
        if (candidate.runs) names.push_back(candidate.kernel->name);
    return names;
}

const Kernel &chosen_kernel() {
    static const Kernel &kernel = choose();
    return kernel;
}

}  // namespace qkv
