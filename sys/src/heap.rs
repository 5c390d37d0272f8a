//! Memory that the allocator keeps for later.

/// Gives free memory in all of the allocator's arenas back to the kernel; see malloc_trim(3). Where the C
/// library is not glibc there is nothing to give.
pub fn give_back() {
    // SAFETY: malloc_trim takes the allocator's own locks and touches free memory only.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
