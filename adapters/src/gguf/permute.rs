//! The order of the rows of q and k in GGUF files of the llama architecture.
//!
//! Hugging Face checkpoints rotate the first half of each head against the second; llama.cpp rotates neighbours, so
//! its converter interleaves the two halves. Loading a GGUF file undoes that; exporting to GGUF does it again.
//! Source: `LlamaModel.permute` in llama.cpp's `convert_hf_to_gguf.py`.

use crate::AdapterError;

/// Brings the rows of a q or k weight from llama.cpp's order back into that of Hugging Face checkpoints.
///
/// In each head, row `2 i + h` of the GGUF file becomes row `h · head_dim / 2 + i`, for half `h` in {0, 1}.
///
/// # Shapes
/// `values` is `[rows, cols]` row-major with `rows = n_heads · head_dim`; for k, `n_heads` is the number of key-value
/// heads. For a bias, `cols` is 1.
///
/// # Errors
/// [`AdapterError::HeadLayout`] when the numbers do not fit each other.
pub fn unpermute(values: &[f32], rows: usize, cols: usize, n_heads: usize) -> Result<Vec<f32>, AdapterError> {
    let half = half_head(values.len(), rows, cols, n_heads)?;
    Ok(reorder(values, cols, n_heads, |head, half_index, i| head * 2 * half + 2 * i + half_index, half))
}

/// The row of the GGUF file that becomes each row of a q or k weight, as [`unpermute`] takes it: for matrices whose rows
/// are not numbers one by one.
///
/// # Errors
/// [`AdapterError::HeadLayout`] when the numbers do not fit each other.
pub fn unpermuted_row(rows: usize, n_heads: usize) -> Result<impl Fn(usize) -> usize, AdapterError> {
    let half = half_head(rows, rows, 1, n_heads)?;
    Ok(move |row: usize| {
        let (head, place) = (row / (2 * half), row % (2 * half));
        head * 2 * half + 2 * (place % half) + place / half
    })
}

/// Brings the rows of a q or k weight, or of a LoRA `B` for one, into llama.cpp's order: the inverse of [`unpermute`].
///
/// # Shapes
/// As for [`unpermute`].
///
/// # Errors
/// [`AdapterError::HeadLayout`] when the numbers do not fit each other.
pub fn permute(values: &[f32], rows: usize, cols: usize, n_heads: usize) -> Result<Vec<f32>, AdapterError> {
    let half = half_head(values.len(), rows, cols, n_heads)?;
    // Position `p` of the output, counted in halves as `reorder` does, holds row `half · (p mod 2) + p / 2`.
    let source = |head, half_index, i| {
        let position = half_index * half + i;
        head * 2 * half + half * (position % 2) + position / 2
    };
    Ok(reorder(values, cols, n_heads, source, half))
}

/// Half of `head_dim`, once all the numbers agree.
fn half_head(values: usize, rows: usize, cols: usize, heads: usize) -> Result<usize, AdapterError> {
    // Without values there is nothing to permute, and any number of heads would fit.
    let fits = heads > 0
        && values > 0
        && rows.checked_mul(cols) == Some(values)
        && heads.checked_mul(2).is_some_and(|halves| rows.is_multiple_of(halves));
    if fits { Ok(rows / heads / 2) } else { Err(AdapterError::HeadLayout { values, rows, cols, heads }) }
}

/// Writes the rows in order of head, half and index, each taken from the row that `source` names.
fn reorder(
    values: &[f32],
    cols: usize,
    n_heads: usize,
    source: impl Fn(usize, usize, usize) -> usize,
    half: usize,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in 0..n_heads {
        for half_index in 0..2 {
            for i in 0..half {
                let row = source(head, half_index, i);
                out.extend_from_slice(&values[row * cols..(row + 1) * cols]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        for (len, rows, cols, heads) in
            [(8, 4, 2, 0), (7, 4, 2, 1), (12, 6, 2, 2), (8, 4, 2, 4), (0, usize::MAX, 0, 1), (0, 0, 1, 1 << 60)]
        {
            let error = unpermute(&vec![0.0; len], rows, cols, heads).expect_err("must not fit");
            assert!(error.to_string().contains(&format!("{rows} rows by {cols} columns in {heads} heads")), "{error}");
        }
    }

    #[test]
    fn permuting_and_unpermuting_is_the_identity() {
        let values: Vec<f32> = (0_u8..48).map(f32::from).collect();
        let permuted = permute(&values, 16, 3, 2).expect("two heads of eight rows");
        assert_ne!(permuted, values);
        assert_eq!(unpermute(&permuted, 16, 3, 2).expect("the same shape"), values);
        let row = unpermuted_row(16, 2).expect("the same shape");
        let by_rows: Vec<f32> = (0..16).flat_map(|i| permuted[3 * row(i)..][..3].to_vec()).collect();
        assert_eq!(by_rows, values);
    }
}
