use candle_core::Device;

/// The device that tests run on, from `CANDLE_BRIDGE_TEST_DEVICE`: `cpu` (the default), `cuda` or `metal`.
///
/// # Panics
/// If there is no such device.
#[allow(clippy::panic, clippy::unwrap_used, reason = "a helper of tests fails by panicking")]
pub fn device() -> Device {
    match std::env::var("CANDLE_BRIDGE_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => Device::new_cuda(0).unwrap(),
        Ok("metal") => Device::new_metal(0).unwrap(),
        Ok(other) => panic!("unknown test device {other}"),
    }
}
