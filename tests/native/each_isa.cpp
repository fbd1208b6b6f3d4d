#include "each_isa.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "dispatch.h"

namespace qkv::test {

int in_each_isa(int (*test)()) {
    if (std::getenv("QKV_ISA")) return test();
    int failures = 0;
    for (const std::string &name : available_kernels()) {
        std::fflush(nullptr);
        const pid_t child = fork();
        if (child == 0) {
            setenv("QKV_ISA", name.c_str(), 1);
            std::exit(test());
        }
        int status = -1;
        waitpid(child, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            std::printf("%s: well\n", name.c_str());
            continue;
        }
        ++failures;
        std::printf("%s: failed, ended by %s %d\n", name.c_str(), WIFSIGNALED(status) ? "signal" : "code",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    return failures ? 1 : 0;
}

}  // namespace qkv::test
