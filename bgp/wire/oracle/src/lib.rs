//! Nothing: this package holds tests of `bgp-wire` against other implementations, one of which
//! has a licence that must not reach what is shipped. No package may depend on this one.
