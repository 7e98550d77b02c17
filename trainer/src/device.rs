//! The only file that names a backend.

use burn::backend::DispatchDevice;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::cluster::Collective;
use crate::error::TrainError;
use crate::kernels::Kernels;
use crate::recipe::DeviceName;

/// Opens the device that a recipe names: `flex`, `cuda`, `cuda:1`, `vulkan`, `webgpu`, `libtorch`.
///
/// # Errors
/// [`TrainError::Device`] for a name that is not known, or whose backend this build does not carry.
pub fn open(name: &str) -> Result<Device, TrainError> {
    let fail = |reason: String| TrainError::Device { device: name.to_owned(), reason };
    let parsed: DeviceName = name.parse().map_err(|forms| fail(format!("is not known, expected {forms}")))?;
    let feature = match parsed {
        #[cfg(feature = "flex")]
        DeviceName::Flex => return Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        DeviceName::Cuda(index) => return Ok(Device::cuda(index)),
        #[cfg(feature = "vulkan")]
        DeviceName::Vulkan(index) => return Ok(Device::vulkan(burn::tensor::DeviceKind::DiscreteGpu(index))),
        #[cfg(feature = "webgpu")]
        DeviceName::Webgpu => return Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "libtorch")]
        DeviceName::Libtorch => return Ok(Device::libtorch()),
        #[cfg(not(feature = "flex"))]
        DeviceName::Flex => "flex",
        #[cfg(not(feature = "cuda"))]
        DeviceName::Cuda(_) => "cuda",
        #[cfg(not(feature = "vulkan"))]
        DeviceName::Vulkan(_) => "vulkan",
        #[cfg(not(feature = "webgpu"))]
        DeviceName::Webgpu => "webgpu",
        #[cfg(not(feature = "libtorch"))]
        DeviceName::Libtorch => "libtorch",
    };
    #[cfg_attr(
        all(feature = "flex", feature = "cuda", feature = "vulkan", feature = "webgpu", feature = "libtorch"),
        expect(unreachable_code, reason = "a build with every backend refuses none")
    )]
    Err(fail(format!("is not in this build; build it with `cargo build --release --features {feature}`")))
}

/// As [`open`], for one of several ranks: a kind of card without a number is the card of the rank's number on its machine.
///
/// # Errors
/// As [`open`].
pub fn open_for(name: &str, collective: &dyn Collective) -> Result<Device, TrainError> {
    open(&of_rank(name, collective))
}

/// The name of a rank's own device.
pub fn of_rank(name: &str, collective: &dyn Collective) -> String {
    numbered(name, collective.ranks(), collective.local_rank())
}

fn numbered(name: &str, ranks: usize, local_rank: usize) -> String {
    match name {
        "cuda" | "vulkan" if ranks > 1 => format!("{name}:{local_rank}"),
        name => name.to_owned(),
    }
}

/// The implementation of the hot operators that a device has.
pub fn kernels(device: &Device) -> Kernels {
    match device.clone().without_autodiff().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => Kernels::Fused,
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => Kernels::Fused,
        _ => Kernels::Reference,
    }
}

/// Whether the hot operators of a device read weights in blocks; elsewhere they are dequantised when they are loaded.
pub fn reads_blocks(device: &Device) -> bool {
    match device.clone().without_autodiff().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        _ => false,
    }
}

/// Whether the fused attention of a device lets several sequences see one beginning; elsewhere ordinary operators do.
pub fn attends_to_prefixes(device: &Device) -> bool {
    match device.clone().without_autodiff().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        _ => false,
    }
}

/// Puts token ids or row numbers on a device, shape `[count]`.
pub fn indices<T: TryInto<i64>>(values: impl IntoIterator<Item = T>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.into_iter().map(|v| v.try_into().unwrap_or(i64::MAX)).collect();
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Copies a tensor back to the host, in row order.
///
/// # Panics
/// When the device fails, or the tensor is not in float32, which every tensor of this program is.
pub fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("a float32 tensor")
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn each_rank_of_several_gets_the_card_of_its_number() {
        assert_eq!(numbered("cuda", 4, 3), "cuda:3");
        assert_eq!(numbered("cuda", 1, 0), "cuda");
        assert_eq!(numbered("cuda:1", 4, 3), "cuda:1");
        assert_eq!(numbered("flex", 4, 3), "flex");
    }
}
