//! The recipe's `device`: which backend, and which card.

use std::fmt;
use std::str::FromStr;

/// A device by name. Whether the build carries its backend is found out when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// `flex`: the CPU, in pure Rust.
    Flex,
    /// `cuda` or `cuda:1`: an NVIDIA card, counted from 0.
    Cuda(usize),
    /// `vulkan` or `vulkan:1`: a card with Vulkan, counted from 0.
    Vulkan(usize),
    /// `webgpu`: what WebGPU chooses.
    Webgpu,
    /// `libtorch`: the CPU, by LibTorch.
    Libtorch,
}

impl DeviceName {
    /// The forms that are understood.
    pub const FORMS: &str = "flex, cuda, cuda:N, vulkan, vulkan:N, webgpu or libtorch";
}

impl FromStr for DeviceName {
    type Err = &'static str;

    /// The error is the forms that are understood.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let index = |text: &str| text.parse().map_err(|_| Self::FORMS);
        match name.split_once(':') {
            None if name == "flex" => Ok(Self::Flex),
            None if name == "cuda" => Ok(Self::Cuda(0)),
            None if name == "vulkan" => Ok(Self::Vulkan(0)),
            None if name == "webgpu" => Ok(Self::Webgpu),
            None if name == "libtorch" => Ok(Self::Libtorch),
            Some(("cuda", text)) => index(text).map(Self::Cuda),
            Some(("vulkan", text)) => index(text).map(Self::Vulkan),
            _ => Err(Self::FORMS),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flex => f.write_str("flex"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Vulkan(index) => write!(f, "vulkan:{index}"),
            Self::Webgpu => f.write_str("webgpu"),
            Self::Libtorch => f.write_str("libtorch"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_read_and_written_back() {
        for name in ["flex", "cuda:0", "cuda:3", "vulkan:1", "webgpu", "libtorch"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
        assert_eq!("vulkan".parse(), Ok(DeviceName::Vulkan(0)));
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "cpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:0:1", "flex:0", "webgpu:1", " flex"] {
            assert_eq!(name.parse::<DeviceName>(), Err(DeviceName::FORMS), "{name}");
        }
    }
}
