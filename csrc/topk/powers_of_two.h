// Tables for e^x in registers.
#pragma once

#include <cstdint>

namespace qprof::topk {
namespace {

// Entry k of a table of 2^bits is the float 2^(k / 2^bits), less k << (23 - bits). An integer n whose low bits are k
// then makes 2^(n / 2^bits) by one addition, of n << (23 - bits): the octaves land in the exponent, and k goes away.
[[maybe_unused]] constexpr uint32_t kPowersOfTwo8[8] = {
    0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7, 0x3f7504f3, 0x3f75672a, 0x3f7744fd, 0x3f7ac0c7,
};
[[maybe_unused]] constexpr uint32_t kPowersOfTwo16[16] = {
    0x3f800000, 0x3f7daac3, 0x3f7b95c2, 0x3f79c3d3, 0x3f7837f0, 0x3f76f532, 0x3f75fed7, 0x3f75583f,
    0x3f7504f3, 0x3f7508a4, 0x3f75672a, 0x3f76248c, 0x3f7744fd, 0x3f78ccdf, 0x3f7ac0c7, 0x3f7d257d,
};

}  // namespace
}  // namespace qprof::topk
