//! Weights that both Python and Rust can compute, so that no file has to store them: the number at
//! `index` of a tensor is that of SplitMix64 (Steele et al., 2014) at the state
//! `fnv1a(name) + (index + 1) · 2⁶⁴/φ`. See models/references/keyed.py.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Range of biases, and of the weights of norms around 1.
const SPREAD: f64 = 0.2;

/// Returns the numbers of a tensor: a matrix keeps the variance of its input, a norm nearly its
/// scale.
pub fn numbers(key: &str, shape: &[i64]) -> Vec<f32> {
    let (scale, centre) = match shape {
        [_] => (SPREAD, if key.ends_with("weight") { 1.0 } else { 0.0 }),
        _ => {
            let inputs: i64 = shape[1..].iter().product();
            ((3.0 / inputs as f64).sqrt(), 0.0)
        }
    };
    let count: i64 = shape.iter().product();
    uniform(key, count.unsigned_abs())
        .map(|number| (number * scale + centre) as f32)
        .collect()
}

/// Returns multiples of 2⁻²³ from −1 to 1.
fn uniform(key: &str, count: u64) -> impl Iterator<Item = f64> {
    let start = fnv1a(key);
    (1..=count).map(move |index| {
        let state = start.wrapping_add(index.wrapping_mul(GOLDEN));
        let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let state = state ^ (state >> 31);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    })
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
