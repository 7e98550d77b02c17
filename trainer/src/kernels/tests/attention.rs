//! Attention: several examples, groups of heads, windows and soft caps.

use std::ops::Range;

use proptest::prelude::*;

use super::{Draw, assert_close, check, config, device, dot, read};
use crate::kernels::Kernels;
use crate::kernels::attention::{Heads, Span, Spans, attention, cached_attention};

/// One head of one example: queries at the positions from `past` on.
fn plain_head(q: &[Vec<f64>], k: &[Vec<f64>], v: &[Vec<f64>], past: usize, heads: Heads) -> Vec<Vec<f64>> {
    let query = |(i, q): (usize, &Vec<f64>)| {
        let seen: Vec<usize> = (0..k.len())
            .filter(|&key| key <= past + i && heads.window.is_none_or(|window| past + i - key < window))
            .collect();
        let score = |key: &usize| {
            let score = dot(q, &k[*key]) * f64::from(heads.scale);
            heads.soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
        };
        let scores: Vec<f64> = seen.iter().map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let column = |d: usize| seen.iter().zip(&weights).map(|(&key, weight)| weight / sum * v[key][d]).sum();
        (0..heads.head_dim).map(column).collect()
    };
    q.iter().enumerate().map(query).collect()
}

/// Columns of some rows.
fn columns(rows: &[f64], width: usize, range: &Range<usize>, head: usize, head_dim: usize) -> Vec<Vec<f64>> {
    range.clone().map(|row| rows[row * width + head * head_dim..][..head_dim].to_vec()).collect()
}

fn plain(qkv: &[f64], spans: &Spans, heads: Heads) -> Vec<f64> {
    let (width, out_width) = (heads.width(), heads.heads * heads.head_dim);
    let mut out = vec![0.0; qkv.len() / width * out_width];
    for Span { range, prefix } in spans.iter() {
        for head in 0..heads.heads {
            let kv_head = heads.heads + head / (heads.heads / heads.kv_heads);
            let part = |range: &Range<usize>, head: usize| columns(qkv, width, range, head, heads.head_dim);
            let all = |head: usize| [part(prefix, head), part(range, head)].concat();
            let (k, v) = (all(kv_head), all(kv_head + heads.kv_heads));
            let rows = plain_head(&part(range, head), &k, &v, prefix.len(), heads);
            for (token, row) in range.clone().zip(rows) {
                out[token * out_width + head * heads.head_dim..][..heads.head_dim].copy_from_slice(&row);
            }
        }
    }
    out
}

fn heads() -> impl Strategy<Value = Heads> {
    let window = prop::option::of(1usize..50);
    let soft_cap = prop::option::of(0.5f32..50.0);
    (1usize..4, 1usize..4, 4usize..65, 0.5f32..1.5, window, soft_cap).prop_map(
        |(kv_heads, group, head_dim, scale, window, soft_cap)| Heads {
            heads: kv_heads * group,
            kv_heads,
            head_dim,
            scale: scale / (head_dim as f32).sqrt(),
            window,
            soft_cap,
        },
    )
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn any_examples(
        families in prop::collection::vec((1usize..71, prop::collection::vec(1usize..40, 0..4)), 1..4),
        heads in heads(),
        seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let mut end = 0;
        let mut next = |length: usize| {
            end += length;
            end - length..end
        };
        // Each an example alone, or what some have in common and the rest of each.
        let spans = families.iter().flat_map(|(first, rests)| {
            let prefix = next(*first);
            let rests: Vec<Span> =
                rests.iter().map(|&rest| Span { range: next(rest), prefix: prefix.clone() }).collect();
            [vec![prefix.into()], rests].concat()
        });
        let spans: Spans = spans.collect();
        let qkv = draw.matrix(end, heads.width(), 1.0);
        check(
            &mut draw,
            &[qkv],
            |kernels, inputs| attention(kernels, inputs[0].clone(), &spans, heads),
            |inputs| plain(&inputs[0], &spans, heads),
        );
    }

    #[test]
    fn any_cache(past in 0usize..90, new in 1usize..40, heads in heads(), seed: u64) {
        let mut draw = Draw::new(seed);
        let (q_width, kv_width) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
        let q = draw.matrix(new, q_width, 1.0);
        let [k, v] = std::array::from_fn(|_| draw.matrix(past + new, kv_width, 1.0));
        let mut expected = vec![0.0; new * q_width];
        for head in 0..heads.heads {
            let kv_head = head / (heads.heads / heads.kv_heads);
            let part = |rows: &[f64], width, count, head| columns(rows, width, &(0..count), head, heads.head_dim);
            let rows = plain_head(
                &part(&q.doubles(), q_width, new, head),
                &part(&k.doubles(), kv_width, past + new, kv_head),
                &part(&v.doubles(), kv_width, past + new, kv_head),
                past,
                heads,
            );
            for (token, row) in rows.into_iter().enumerate() {
                expected[token * q_width + head * heads.head_dim..][..heads.head_dim].copy_from_slice(&row);
            }
        }
        for kernels in [Kernels::Fused, Kernels::Reference] {
            let [q, k, v] = [&q, &k, &v].map(|matrix| matrix.tensor(&device()));
            assert_close(&format!("{kernels:?}"), &read(cached_attention(kernels, q, k, v, heads)), &expected);
        }
    }
}
