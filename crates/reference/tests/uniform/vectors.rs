//! Every vector of `tests/data/rng_vectors.json` is checked, or named here with the reason why not.

use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_chacha::{ChaCha8Rng, ChaCha12Rng, ChaCha20Rng};
use serde_json::Value;
use std::collections::BTreeMap;
use sus_reference::sus::uniform::{
    Grid, Layout, Uniforms, keep32, keep64, philox4x32, philox4x32_10, threefry2x32,
};

/// What is done with the vectors of one algorithm; a check gets the inputs and the outputs.
enum Plan {
    Check(fn(&Value, &Value)),
    NotOurs(&'static str),
}
use Plan::{Check, NotOurs};

/// Algorithm, number of vectors, outputs that the check leaves unread, plan.
type Row = (&'static str, usize, &'static [&'static str], Plan);

const FLOATS: &str = "a float made from a word: sus-u/1 never compares one";
const WIDE: &str = "64-bit words, which no layout of sus-u/1 uses";

const PLANS: &[Row] = &[
    ("philox4x32-7", 3, &[], Check(|i, o| philox_block(i, o, 7))),
    ("philox4x32-10", 3, &[], Check(|i, o| philox_block(i, o, 10))),
    ("philox4x64-10", 3, &[], NotOurs(WIDE)),
    ("threefry2x32-13", 3, &[], Check(|i, o| threefry_block(i, o, 13))),
    ("threefry2x32-20", 3, &[], Check(|i, o| threefry_block(i, o, 20))),
    ("triton>=3.4 tl.randint4x", 60, &[], Check(triton_randint4x)),
    ("triton tl.randint4x n_rounds=7", 2, &[], Check(triton_seven_rounds)),
    ("triton<=3.3.1 tl.randint4x (int64 offset => Philox4x64!)", 2, &[], NotOurs(WIDE)),
    ("triton tl.randint / tl.rand", 8, &["rand_f32"], Check(triton_randint)),
    ("u32 -> f32 uniform maps", 32, &[], NotOurs(FLOATS)),
    ("curand_init + curand (Philox4_32_10)", 11, &[], Check(curand)),
    ("at::philox_engine", 5, &[], Check(torch_engine)),
    ("torch.func._random.bits/uniform", 5, &["uniform_f32"], Check(torch_bits)),
    ("flash-attention 2 dropout (Philox4x32-7)", 2, &[], Check(flash_attention)),
    ("jax.random threefry2x32 partitionable", 6, &["uniform_f32"], Check(jax_partitionable)),
    ("jax.random threefry2x32 original", 6, &["uniform_f32", "bits_u64"], Check(jax_original)),
    ("jax.random philox4x32 impl (raw key [42,0])", 1, &[], Check(jax_philox)),
    ("chacha8 (djb 64-bit counter / 64-bit stream)", 4, &[], Check(chacha8)),
    ("chacha12 (djb 64-bit counter / 64-bit stream)", 2, &[], Check(chacha12)),
    ("chacha20 (djb 64-bit counter / 64-bit stream)", 7, &[], Check(chacha20)),
    ("sus coord4", 13, &[], Check(sus_coord4)),
    ("sus linear4", 7, &[], Check(|i, o| sus_linear(Layout::Linear4, i, o))),
    ("sus linear1", 6, &[], Check(|i, o| sus_linear(Layout::Linear1, i, o))),
    ("sus jax-threefry", 6, &[], Check(|i, o| sus_linear(Layout::JaxThreefry, i, o))),
    ("sus keep32", 59, &[], Check(sus_keep32)),
    ("sus keep64", 63, &[], Check(sus_keep64)),
];

#[test]
fn every_known_answer_is_reproduced_or_named_as_not_ours() {
    let text = include_str!("../data/rng_vectors.json");
    let file: Value = serde_json::from_str(text).expect("valid JSON");
    let mut counts = BTreeMap::new();
    for vector in file["vectors"].as_array().expect("a list of vectors") {
        let name = vector["algorithm"].as_str().expect("a name");
        let (.., unread, plan) = PLANS
            .iter()
            .find(|(known, ..)| *known == name)
            .unwrap_or_else(|| panic!("no plan for algorithm {name:?}"));
        *counts.entry(name).or_insert(0) += 1;
        match plan {
            Check(check) => {
                let mut outputs = vector["outputs"].clone();
                let fields = outputs.as_object_mut().expect("named outputs");
                fields.retain(|field, _| !unread.contains(&field.as_str()));
                assert!(!fields.is_empty(), "{name}: nothing left to check");
                println!("{name}: {}", vector["inputs"]);
                check(&vector["inputs"], &outputs);
            }
            NotOurs(reason) => assert!(!reason.is_empty()),
        }
    }
    for (name, expected, ..) in PLANS {
        assert_eq!(counts.get(name), Some(expected), "number of vectors of {name}");
    }
    let checked = |row: &&Row| matches!(row.3, Check(_));
    assert_eq!(PLANS.iter().map(|row| row.1).sum::<usize>(), 322);
    assert_eq!(PLANS.iter().filter(checked).map(|row| row.1).sum::<usize>(), 285);
}

fn hex(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().expect("hexadecimal text"), 16).expect("hexadecimal text")
}

fn words(value: &Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|word| hex(word) as u32).collect()
}

fn array<const N: usize>(value: &Value) -> [u32; N] {
    words(value).try_into().expect("the right number of words")
}

fn size(value: &Value) -> usize {
    value.as_u64().expect("a number") as usize
}

fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

fn pair(low: u64, high: u64) -> [u32; 4] {
    let ([a, b], [c, d]) = (halves(low), halves(high));
    [a, b, c, d]
}

/// Checks that the fields of `outputs` are exactly these and that each is as computed.
fn expect(outputs: &Value, computed: &[(&str, Value)]) {
    let computed: serde_json::Map<_, _> =
        computed.iter().map(|(field, value)| ((*field).to_owned(), value.clone())).collect();
    assert_eq!(outputs, &Value::Object(computed), "left: the file, right: computed");
}

fn text32(words: impl AsRef<[u32]>) -> Value {
    words.as_ref().iter().map(|word| format!("{word:08x}")).collect()
}

fn text64(words: &[u64]) -> Value {
    words.iter().map(|word| format!("{word:016x}")).collect()
}

fn philox_block(inputs: &Value, outputs: &Value, rounds: u32) {
    let out = philox4x32(array(&inputs["ctr"]), array(&inputs["key"]), rounds);
    expect(outputs, &[("out", text32(out))]);
}

fn threefry_block(inputs: &Value, outputs: &Value, rounds: u32) {
    let out = threefry2x32(array(&inputs["ctr"]), array(&inputs["key"]), rounds);
    expect(outputs, &[("out", text32(out))]);
}

fn triton_randint4x(inputs: &Value, outputs: &Value) {
    let (counter, key) = (pair(hex(&inputs["offset"]), 0), halves(hex(&inputs["seed"])));
    let out = philox4x32_10(counter, key);
    expect(outputs, &[("ctr", text32(counter)), ("key", text32(key)), ("out", text32(out))]);
}

fn triton_seven_rounds(inputs: &Value, outputs: &Value) {
    let (counter, key) = (pair(hex(&inputs["offset"]), 0), halves(hex(&inputs["seed"])));
    expect(outputs, &[("out", text32(philox4x32(counter, key, 7)))]);
}

fn triton_randint(inputs: &Value, outputs: &Value) {
    let (counter, key) = (pair(hex(&inputs["offset"]), 0), halves(hex(&inputs["seed"])));
    let word = philox4x32_10(counter, key)[0];
    expect(outputs, &[("randint", format!("{word:08x}").into())]);
}

/// Eight words from word `skip` of block `block` on; counter words 2 and 3 are the subsequence.
fn sequence(seed: u64, block: u64, subsequence: u64, skip: usize, rounds: u32) -> Vec<u32> {
    let counters = (0..3).map(|n| pair(block.wrapping_add(n), subsequence));
    let blocks = counters.flat_map(|counter| philox4x32(counter, halves(seed), rounds));
    blocks.skip(skip).take(8).collect()
}

fn curand(inputs: &Value, outputs: &Value) {
    let (seed, subsequence) = (hex(&inputs["seed"]), hex(&inputs["subsequence"]));
    let offset = hex(&inputs["offset"]);
    let (block, state) = (offset / 4, (offset % 4) as usize);
    let computed = [
        ("ctr", text32(pair(block, subsequence))),
        ("key", text32(halves(seed))),
        ("STATE", state.into()),
        ("next8", text32(sequence(seed, block, subsequence, state, 10))),
    ];
    expect(outputs, &computed);
}

fn torch_engine(inputs: &Value, outputs: &Value) {
    let (seed, subsequence) = (hex(&inputs["seed"]), hex(&inputs["subsequence"]));
    let (block, rounds) = (hex(&inputs["offset_blocks"]), size(&inputs["rounds"]) as u32);
    expect(outputs, &[("next8", text32(sequence(seed, block, subsequence, 0, rounds)))]);
}

fn torch_bits(inputs: &Value, outputs: &Value) {
    let (seed, block) = (hex(&inputs["seed"]), hex(&inputs["offset"]));
    let bits = sequence(seed, block, 0, 0, 10);
    let wide: Vec<u64> =
        bits.chunks(2).map(|word| u64::from(word[0]) << 32 | u64::from(word[1])).collect();
    expect(outputs, &[("bits_u32", text32(bits)), ("bits_u64", text64(&wide))]);
}

fn flash_attention(inputs: &Value, outputs: &Value) {
    let number = |field: &str| inputs[field].as_u64().expect("a number");
    let head = number("bid") * number("nheads") + number("hid");
    let offset = hex(&inputs["offset"]) + head * 32 + number("tid") % 32;
    let counter = pair(offset, number("block_col_32") << 32 | number("block_row_16"));
    let out = philox4x32(counter, halves(hex(&inputs["seed"])), 7);
    let bytes = out.map(|word| format!("{:08x}", word.swap_bytes())).concat();
    let computed = [("ctr", text32(counter)), ("out", text32(out)), ("bytes", bytes.into())];
    expect(outputs, &computed);
}

fn jax_partitionable(inputs: &Value, outputs: &Value) {
    let (count, key) = (size(&inputs["shape"][0]), array(&inputs["key"]));
    let blocks: Vec<_> = (0..count as u32).map(|n| threefry2x32([0, n], key, 20)).collect();
    let wide: Vec<u64> =
        blocks.iter().map(|[x0, x1]| u64::from(*x0) << 32 | u64::from(*x1)).collect();
    let bits: Vec<u32> = blocks.iter().map(|[x0, x1]| x0 ^ x1).collect();
    let grid = Grid { batch: 1, heads: 1, queries: 1, keys: count };
    let uniforms = Uniforms::new(hex(&inputs["seed"]), 0, Layout::JaxThreefry, grid);
    let mut row = vec![0xdead_beef; count];
    uniforms.expect("a small grid").row_words(0, 0, 0, 0, &mut row);
    assert_eq!(row, bits);
    expect(outputs, &[("bits_u32", text32(bits)), ("bits_u64", text64(&wide))]);
}

/// The order of JAX before partitionable words: the second half of the counts (padded with a zero) sits in
/// the second counter word.
fn jax_original(inputs: &Value, outputs: &Value) {
    let (count, key) = (size(&inputs["shape"][0]), array(&inputs["key"]));
    let half = count.div_ceil(2) as u32;
    let second = |n: u32| if ((n + half) as usize) < count { n + half } else { 0 };
    let blocks: Vec<_> = (0..half).map(|n| threefry2x32([n, second(n)], key, 20)).collect();
    let bits = [0, 1].into_iter().flat_map(|word| blocks.iter().map(move |block| block[word]));
    expect(outputs, &[("bits_u32", text32(bits.take(count).collect::<Vec<u32>>()))]);
}

fn jax_philox(inputs: &Value, outputs: &Value) {
    let key = array(&inputs["key"]);
    let fold = |n| philox4x32_10([0, n, 0, 0], key).into_iter().fold(0, |all, word| all ^ word);
    let bits: Vec<u32> = (0..size(&inputs["shape"][0]) as u32).map(fold).collect();
    expect(outputs, &[("bits_u32", text32(bits))]);
}

/// The generators of fixtures, placed by `from_seed`, `set_stream`, `set_word_pos`, in this order.
macro_rules! chacha {
    ($name:ident, $generator:ty) => {
        fn $name(inputs: &Value, outputs: &Value) {
            let text = inputs["seed"].as_str().expect("a seed");
            let byte = |n: usize| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).expect("a byte");
            let mut generator = <$generator>::from_seed(std::array::from_fn(byte));
            generator.set_stream(hex(&inputs["stream"]));
            let position = inputs["word_pos"].as_str().expect("a position");
            generator.set_word_pos(position.parse().expect("a position"));
            let mut bytes = [0xa5; 64];
            generator.fill_bytes(&mut bytes);
            let bytes = bytes.map(|byte| format!("{byte:02x}")).concat();
            expect(outputs, &[("bytes", bytes.into())]);
        }
    };
}
chacha!(chacha8, ChaCha8Rng);
chacha!(chacha12, ChaCha12Rng);
chacha!(chacha20, ChaCha20Rng);

fn sus_coord4(inputs: &Value, outputs: &Value) {
    let [bh, i, j] = ["bh", "i", "j"].map(|field| size(&inputs[field]));
    let (seed, stream) = (hex(&inputs["seed"]), size(&inputs["stream"]) as u32);
    let counter = [(j >> 2) as u32, i as u32, bh as u32, stream];
    let as_heads = Grid { batch: 1, heads: bh + 1, queries: i + 1, keys: j + 1 };
    let as_batch = Grid { batch: bh + 1, heads: 1, ..as_heads };
    for (grid, b, h) in [(as_heads, 0, bh), (as_batch, bh, 0)] {
        let uniforms = Uniforms::new(seed, stream, Layout::Coord4, grid).expect("in range");
        let computed = [
            ("ctr", text32(counter)),
            ("key", text32(halves(seed))),
            ("word", (j & 3).into()),
            ("x", format!("{:08x}", uniforms.word(b, h, i, j)).into()),
            ("x_ext", format!("{:08x}", uniforms.second_word(b, h, i, j)).into()),
        ];
        assert_eq!(uniforms.word(b, h, i, j), philox4x32_10(counter, halves(seed))[j & 3]);
        expect(outputs, &computed);
    }
}

fn sus_linear(layout: Layout, inputs: &Value, outputs: &Value) {
    let [batch, heads, queries, keys] = ["B", "H", "n_q", "n_k"].map(|field| size(&inputs[field]));
    let [b, h, i, j] = ["b", "h", "i", "j"].map(|field| size(&inputs[field]));
    let grid = Grid { batch, heads, queries, keys };
    let uniforms = Uniforms::new(hex(&inputs["seed"]), 0, layout, grid).expect("in range");
    let row = (b * heads + h) * queries + i;
    let x = ("x", format!("{:08x}", uniforms.word(b, h, i, j)).into());
    let offset = |offset: usize| Value::from(format!("{offset:016x}"));
    match layout {
        Layout::Linear4 => {
            let offset = offset(row * keys.div_ceil(4) + j / 4);
            expect(outputs, &[("offset", offset), ("word", (j % 4).into()), x]);
        }
        Layout::Linear1 => expect(outputs, &[("offset", offset(row * keys + j)), x]),
        _ => expect(outputs, &[("n", offset(row * keys + j)), x]),
    }
}

fn sus_keep32(inputs: &Value, outputs: &Value) {
    let (x, q) = (hex(&inputs["x"]) as u32, f64::from_bits(hex(&inputs["q_f64"])));
    let kept = hex(&outputs["T"]); // the number of words that are kept
    assert!(kept == 0 || keep32(q, (kept - 1) as u32), "the last kept word");
    assert!(kept > u64::from(u32::MAX) || !keep32(q, kept as u32), "the first dropped word");
    assert_eq!(Value::from(keep32(q, x)), outputs["keep"]);
}

fn sus_keep64(inputs: &Value, outputs: &Value) {
    let (x, q) = (hex(&inputs["x"]) as u32, f64::from_bits(hex(&inputs["q_f64"])));
    let kept = keep64(q, x, || hex(&inputs["x_ext"]) as u32);
    expect(outputs, &[("keep", kept.into())]);
}
