//! candle-nn with faster products and an allocator that keeps what it has.

/// Memory is not mapped for large blocks, and none is given back to the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_memory() {
    // SAFETY: changes parameters of the allocator, before any thread is started.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_memory() {}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    keep_memory();
    candle_nn_peer::run()
}
