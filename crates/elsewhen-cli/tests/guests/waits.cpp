// Waits, in every way that the library of C++ has; the conversation is that of waits.c.
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <future>
#include <iostream>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>

using std::chrono::nanoseconds;
using Steady = std::chrono::steady_clock;
using System = std::chrono::system_clock;

#define MUST(condition)                                             \
    do {                                                            \
        if (!(condition)) {                                         \
            std::cerr << "waits: not so: " #condition << std::endl; \
            std::_Exit(1);                                          \
        }                                                           \
    } while (0)

template <class Clock>
static auto in(nanoseconds length) {
    return Clock::now() + std::chrono::duration_cast<typename Clock::duration>(length);
}

// Nobody notifies, but a wait may end without: only its time ends it for good.
template <class Wait>
static void wait_on_condition(Wait wait) {
    std::mutex mutex;
    std::condition_variable condition;
    std::unique_lock lock(mutex);
    MUST(!wait(condition, lock));
}

// Locks that another thread holds for ever.
static std::timed_mutex held;
static std::shared_timed_mutex held_shared;

static void hold() {
    std::promise<void> held_now;
    std::thread([&held_now] {
        held.lock();
        held_shared.lock();
        held_now.set_value();
        for (;;)
            std::this_thread::sleep_for(std::chrono::hours(1));
    }).detach();
    held_now.get_future().wait();
}

static const auto never = [] { return false; };

static const std::map<std::string, void (*)(nanoseconds)> ways = {
    {"sleep_for", [](nanoseconds length) { std::this_thread::sleep_for(length); }},
    {"sleep_until-steady", [](nanoseconds length) { std::this_thread::sleep_until(in<Steady>(length)); }},
    {"sleep_until-system:r", [](nanoseconds length) { std::this_thread::sleep_until(in<System>(length)); }},
    {"wait_for",
     [](nanoseconds length) {
         wait_on_condition([=](auto &condition, auto &lock) { return condition.wait_for(lock, length, never); });
     }},
    {"wait_until-steady",
     [](nanoseconds length) {
         wait_on_condition(
             [=](auto &condition, auto &lock) { return condition.wait_until(lock, in<Steady>(length), never); });
     }},
    {"wait_until-system:r",
     [](nanoseconds length) {
         wait_on_condition([=](auto &condition, auto &lock) {
             // Whatever it returns: that is decided by reading the clock.
             condition.wait_until(lock, in<System>(length));
             return false;
         });
     }},
    {"wait_until-system-predicate:r",
     [](nanoseconds length) {
         wait_on_condition(
             [=](auto &condition, auto &lock) { return condition.wait_until(lock, in<System>(length), never); });
     }},
    {"try_lock_for", [](nanoseconds length) { MUST(!held.try_lock_for(length)); }},
    {"try_lock_until-steady", [](nanoseconds length) { MUST(!held.try_lock_until(in<Steady>(length))); }},
    {"try_lock_until-system:r", [](nanoseconds length) { MUST(!held.try_lock_until(in<System>(length))); }},
    {"try_lock_shared_for", [](nanoseconds length) { MUST(!held_shared.try_lock_shared_for(length)); }},
    {"future.wait_for",
     [](nanoseconds length) {
         std::promise<void> promise;
         MUST(promise.get_future().wait_for(length) == std::future_status::timeout);
     }},
    {"future.wait_until-system:r",
     [](nanoseconds length) {
         std::promise<void> promise;
         MUST(promise.get_future().wait_until(in<System>(length)) == std::future_status::timeout);
     }},
};

template <class Clock>
static long long now() {
    return std::chrono::duration_cast<nanoseconds>(Clock::now().time_since_epoch()).count();
}

int main() {
    hold();
    std::cout << "ways";
    for (const auto &way : ways)
        std::cout << ' ' << way.first;
    std::cout << std::endl;
    std::string name;
    long long ns;
    while (std::cin >> name >> ns) {
        auto way = ways.find(name);
        if (way == ways.end())
            way = ways.find(name + ":r");
        MUST(way != ways.end());
        long long monotonic = now<Steady>(), realtime = now<System>();
        way->second(nanoseconds(ns));
        realtime = now<System>() - realtime;
        monotonic = now<Steady>() - monotonic;
        std::cout << ns << ' ' << monotonic << ' ' << realtime << std::endl;
    }
    // What holds the locks never ends by itself.
    std::_Exit(0);
}
