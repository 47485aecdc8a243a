//! The Rust of the book and of the README, run as documentation tests.

#[doc = include_str!("../README.md")]
struct Readme;
#[doc = include_str!("../docs/idea.md")]
struct Idea;
#[doc = include_str!("../docs/attention.md")]
struct Attention;
#[doc = include_str!("../docs/sus.md")]
struct Sus;
#[doc = include_str!("../docs/uniforms.md")]
struct Uniforms;
#[doc = include_str!("../docs/judge-rust.md")]
struct JudgeRust;
