//! Error codes of the CNI specification (CNI 1.1.0, "Error") and our own from 100 on.

/// The configuration asks for a CNI version or verb that is not supported.
pub const INCOMPATIBLE_VERSION: u32 = 1;
/// A field of the configuration has a value that is not supported.
pub const UNSUPPORTED_FIELD: u32 = 2;
/// The container is unknown or does not exist; the runtime need not clean up.
pub const UNKNOWN_CONTAINER: u32 = 3;
/// A `CNI_*` variable is missing or malformed.
pub const INVALID_ENVIRONMENT: u32 = 4;
/// Reading or writing failed.
pub const IO: u32 = 5;
/// The input is not what it should be: not JSON, wrong types.
pub const DECODE: u32 = 6;
/// The network configuration is not valid.
pub const INVALID_CONFIG: u32 = 7;
/// A passing condition: the runtime should repeat the request.
pub const TRY_AGAIN: u32 = 11;
/// STATUS: an ADD could not be served.
pub const NOT_AVAILABLE: u32 = 50;
/// STATUS: an ADD could not be served, and existing pods may have limited connectivity.
pub const LIMITED_CONNECTIVITY: u32 = 51;
/// A defect in the plugin or the agent.
pub const INTERNAL: u32 = 100;
/// The kernel refused an operation.
pub const KERNEL: u32 = 101;
/// No address could be allocated.
pub const NO_ADDRESS: u32 = 102;
/// CHECK found a deviation.
pub const CHECK_FAILED: u32 = 103;
/// The two ends of the socket do not understand each other.
pub const PROTOCOL: u32 = 104;
