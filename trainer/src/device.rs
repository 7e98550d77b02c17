//! The only file that names a backend.

use burn::tensor::Device;

use crate::error::TrainError;

/// Opens the device that a recipe names: `flex`, `cuda`, `cuda:1`, `vulkan`, `webgpu`, `libtorch`.
///
/// # Errors
/// [`TrainError::Device`] for a name that is not known, or whose backend this build does not carry.
pub fn open(name: &str) -> Result<Device, TrainError> {
    let fail = |reason: String| TrainError::Device { device: name.to_owned(), reason };
    let (backend, index) = match name.split_once(':') {
        None => (name, 0),
        Some((backend, index)) => {
            let index: usize = index
                .parse()
                .map_err(|_| fail(format!("got index \"{index}\", expected a whole number such as cuda:0")))?;
            (backend, index)
        }
    };
    if matches!(backend, "flex" | "libtorch") && name.contains(':') {
        return Err(fail(format!("{backend} has no index; write \"{backend}\"")));
    }
    open_backend(backend, index).map_err(fail)
}

/// The backends that a build may carry, by the name of their feature.
const BACKENDS: [&str; 5] = ["flex", "cuda", "vulkan", "webgpu", "libtorch"];

fn open_backend(backend: &str, index: usize) -> Result<Device, String> {
    let _ = index;
    match backend {
        #[cfg(feature = "flex")]
        "flex" => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(index)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(burn::tensor::DeviceKind::DiscreteGpu(index))),
        #[cfg(feature = "webgpu")]
        "webgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "libtorch")]
        "libtorch" => Ok(Device::libtorch()),
        known if BACKENDS.contains(&known) => Err(format!(
            "this build does not carry that backend; build it with `cargo build --release --features {known}`"
        )),
        other => Err(format!("backend \"{other}\" is not known, expected one of {}", BACKENDS.join(", "))),
    }
}
