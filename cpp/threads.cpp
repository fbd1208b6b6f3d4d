#include "threads.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

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
                while (workers_ < threads - 1) {
                    std::thread([this, number = workers_] { serve(number); }).detach();
                    ++workers_;
                }
            } catch (const std::system_error &) {
                // No more threads to be had: those there are do the work.
            }
            helpers_ = threads - 1 < workers_ ? threads - 1 : workers_;
            busy_ = helpers_;
            work_ = &work;
            ++job_;
        }
        wake_.notify_all();
        work();
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return busy_ == 0; });
        work_ = nullptr;
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
            lock.unlock();
            work();
            lock.lock();
            if (--busy_ == 0) done_.notify_one();
        }
    }

    std::mutex calls_;  // held for the length of a call
    std::mutex mutex_;  // guards what follows
    std::condition_variable wake_, done_;
    const std::function<void()> *work_ = nullptr;
    long job_ = 0;
    int workers_ = 0, helpers_ = 0, busy_ = 0;
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
