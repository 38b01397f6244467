"""The compiled part of qprof; sources in csrc/, stubs beside this file."""
