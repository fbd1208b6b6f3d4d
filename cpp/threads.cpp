#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace qkv {
namespace {

class Pool {
  public:
    // Returns false, having done nothing, where another call is using the pool.
    bool run(int threads, const std::function<void()> &work) {
        std::unique_lock<std::mutex> call(calls_, std::try_to_lock);
        if (!call.owns_lock()) return false;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            try {
                handles_.reserve(threads);  // fails here if it must, not with a thread already running
                while (workers_ < threads - 1) {
                    std::thread worker([this, number = workers_] { serve(number); });
                    handles_.push_back(worker.native_handle());
                    worker.detach();
                    ++workers_;
                }
            } catch (const std::exception &) {
                // No more threads to be had: those there are do the work.
            }
            helpers_ = threads - 1 < workers_ ? threads - 1 : workers_;
            work_ = &work;
            ++job_;
            keep_off_caller();
        }
        wake_.notify_all();
        work();
        std::unique_lock<std::mutex> lock(mutex_);
        work_ = nullptr;  // everything is handed out: a worker that wakes only now need not be waited for
        done_.wait(lock, [this] { return busy_ == 0; });
        return true;
    }

  private:
    void serve(int number) {
        std::unique_lock<std::mutex> lock(mutex_);
        for (long seen = 0;;) {
            wake_.wait(lock, [&] { return job_ != seen; });
            seen = job_;
            if (number >= helpers_ || !work_) continue;
            const std::function<void()> &work = *work_;
            ++busy_;
            lock.unlock();
            work();
            lock.lock();
            if (--busy_ == 0) done_.notify_one();
        }
    }

    // Keeps workers off the processor that the caller runs on. The kernel likes to wake a thread beside the one that woke
    // it, and then leaves it waiting there for milliseconds: longer than a short call takes.
    void keep_off_caller() {
#ifdef __linux__
        const int here = sched_getcpu();
        if (here == avoided_ && placed_ == workers_) return;
        cpu_set_t others;
        if (here < 0 || sched_getaffinity(0, sizeof others, &others) != 0) return;
        CPU_CLR(here, &others);
        if (CPU_COUNT(&others) < helpers_) return;
        for (pthread_t handle : handles_) pthread_setaffinity_np(handle, sizeof others, &others);
        avoided_ = here;
        placed_ = workers_;
#endif
    }

    std::mutex calls_;  // held for the length of a call
    std::mutex mutex_;  // guards what follows
    std::condition_variable wake_, done_;
    const std::function<void()> *work_ = nullptr;
    long job_ = 0;
    int workers_ = 0, helpers_ = 0, busy_ = 0;
    std::vector<pthread_t> handles_;
    int avoided_ = -1, placed_ = 0;  // the processor that so many workers keep off
};

// Never destroyed: workers sleep in it until the process ends. Threads do not survive a fork, so the child forgets the
// pool, whatever state its locks were in, and starts another when it needs one.
std::atomic<Pool *> the_pool{nullptr};

Pool &pool() {
    static const int registered = pthread_atfork(nullptr, nullptr, [] { the_pool.store(nullptr); });
    (void)registered;
    Pool *current = the_pool.load();
    if (!current) {
        Pool *fresh = new Pool;
        if (the_pool.compare_exchange_strong(current, fresh)) return *fresh;
        delete fresh;
    }
    return *current;
}

}  // namespace

void run_on_threads(int threads, const std::function<void()> &work) {
    if (threads <= 1 || !pool().run(threads, work)) work();
}

}  // namespace qkv
