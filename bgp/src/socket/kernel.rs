//! System calls that no library covers: the only file of this package with `unsafe`.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

use socket2::SockAddr;

/// Number of an interface.
///
/// # Errors
/// There is no such interface.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no interface {name}"));
    let name = CString::new(name).map_err(|_| missing())?;
    #[allow(unsafe_code, reason = "no library covers it")]
    // SAFETY: `name` is a string that ends with NUL and lives beyond the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        Err(missing())
    } else {
        Ok(index)
    }
}

/// Name of an interface, if there still is one with this number.
pub(crate) fn interface_name(index: u32) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    #[allow(unsafe_code, reason = "no library covers it")]
    // SAFETY: the buffer has the IF_NAMESIZE octets that the call may write.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    let name = CStr::from_bytes_until_nul(&name).ok()?;
    name.to_str().ok().map(str::to_owned)
}

pub(super) fn storage_of(address: IpAddr) -> libc::sockaddr_storage {
    let address = SockAddr::from(SocketAddr::new(address, 0));
    #[allow(unsafe_code, reason = "all-zero bytes are the empty sockaddr_storage")]
    // SAFETY: sockaddr_storage is plain data for which all-zero bytes are a valid value.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = (address.len() as usize).min(size_of::<libc::sockaddr_storage>());
    #[allow(unsafe_code, reason = "copies a socket address into a larger buffer")]
    // SAFETY: `address` holds `len` readable bytes, `storage` has room for them, they are distinct.
    unsafe {
        let to = (&raw mut storage).cast::<u8>();
        std::ptr::copy_nonoverlapping(address.as_ptr().cast::<u8>(), to, len);
    }
    storage
}

/// # Errors
/// What the kernel says.
pub(super) fn set_int(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    set_option(fd, level, name, &value)
}

/// Sets an option whose value is plain data.
///
/// # Errors
/// What the kernel says.
pub(super) fn set_option<T>(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    #[allow(unsafe_code, reason = "socket options that no library covers")]
    // SAFETY: `value` is a live, initialised object of the length given; the kernel only reads it.
    let result = unsafe {
        let pointer = std::ptr::from_ref(value).cast::<libc::c_void>();
        libc::setsockopt(fd, level, name, pointer, size_of::<T>() as libc::socklen_t)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The IP header that opened an accepted connection and what follows it, up to the room there is;
/// empty when the kernel did not keep it. Asking frees it.
pub(super) fn saved_syn(fd: RawFd) -> io::Result<([u8; 128], usize)> {
    let mut header = [0_u8; 128];
    let mut len = header.len() as libc::socklen_t;
    #[allow(unsafe_code, reason = "no library covers it")]
    // SAFETY: the kernel writes at most `len` octets into `header`, which has that many.
    let result = unsafe {
        let pointer = header.as_mut_ptr().cast::<libc::c_void>();
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            pointer,
            &raw mut len,
        )
    };
    if result == 0 {
        Ok((header, (len as usize).min(128)))
    } else {
        Err(io::Error::last_os_error())
    }
}
