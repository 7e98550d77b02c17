//! A frozen weight, as it is kept in memory.

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::blocks::BlockMatrix;

/// A frozen matrix: `[out, in]` of a linear module, `[vocab, hidden]` of the embedding and the head.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a tensor is one large handle; there are few, and none is copied in a loop"
)]
pub enum Weight {
    /// Numbers in float32, bfloat16 or float16, on the model's device.
    Dense(Tensor<2>),
    /// Blocks of a few bits a number, in the machine's memory.
    Blocks(Arc<BlockMatrix>),
}

impl From<Tensor<2>> for Weight {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Dense(tensor)
    }
}

impl From<BlockMatrix> for Weight {
    fn from(blocks: BlockMatrix) -> Self {
        Self::Blocks(Arc::new(blocks))
    }
}

impl Weight {
    /// `[rows, columns]`.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Dense(tensor) => tensor.dims(),
            Self::Blocks(blocks) => blocks.dims(),
        }
    }

    /// All numbers in float32, outside autodiff. Blocks are dequantised anew each time, onto `device`.
    pub fn dense(&self, device: &Device) -> Tensor<2> {
        match self {
            Self::Dense(tensor) => tensor.clone().cast(DType::F32),
            Self::Blocks(blocks) => {
                let device = device.clone().without_autodiff();
                Tensor::from_data(TensorData::new(blocks.to_f32(), blocks.dims()), &device)
            }
        }
    }

    /// Some rows in float32, `[indices, columns]`.
    ///
    /// # Panics
    /// When an index lies outside the matrix.
    pub fn rows(&self, indices: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Dense(tensor) => tensor.clone().select(0, indices).cast(DType::F32),
            Self::Blocks(blocks) => {
                let (device, columns) = (indices.device(), blocks.dims()[1]);
                let indices = indices.into_data();
                let mut values = vec![0.0; indices.num_elements() * columns];
                for (index, out) in indices.iter::<i64>().zip(values.chunks_exact_mut(columns)) {
                    let row = usize::try_from(index).expect("the number of a row");
                    blocks.read(row, 0..columns, out);
                }
                let rows = indices.num_elements();
                Tensor::from_data(TensorData::new(values, [rows, columns]), &device)
            }
        }
    }
}
