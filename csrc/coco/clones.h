// QPROF_CLONES before a function: compiled for several generations of x86-64 CPUs, the best one chosen at load time.
#pragma once

// Only GNU compilers and glibc resolve such functions at load time, and sanitizers' own start-up comes too late for it.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define QPROF_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define QPROF_CLONES
#endif
