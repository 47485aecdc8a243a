//! The options that several commands share, as settings.

use clap::Args;
use sus_oracle::Error;
use sus_oracle::files::{Pass, Settings};
use sus_oracle::mask::{Alignment, Window};
use sus_oracle::sus::{Budget, Layout, Rule, Sampler, UniformBits};

/// Options of the problem. They may add to what the file says, and never contradict it.
#[derive(Args)]
#[command(next_help_heading = "Problem")]
pub(crate) struct ProblemOptions {
    /// Factor of q.k [default: 1/sqrt(D)]
    #[arg(long, value_name = "X", value_parser = finite, allow_negative_numbers = true)]
    scale: Option<f64>,
    /// Scores become X*tanh(score/X)
    #[arg(long, value_name = "X", value_parser = finite, allow_negative_numbers = true)]
    softcap: Option<f64>,
    /// A query sees no key after its diagonal
    #[arg(long)]
    causal: bool,
    /// Where the diagonal lies if Nq != Nk: bottom-right (default) or top-left
    #[arg(long, value_name = "NAME")]
    alignment: Option<Alignment>,
    /// Keys seen before and after the diagonal, both inclusive; inf for no limit
    #[arg(long, value_name = "LEFT,RIGHT", value_parser = window, allow_hyphen_values = true)]
    window: Option<Window>,
    /// Cumulative query lengths of packed sequences, such as 0,3,5
    #[arg(long, value_name = "0,...,Nq", value_delimiter = ',')]
    segments_q: Option<Vec<usize>>,
    /// Cumulative key lengths of packed sequences
    #[arg(long, value_name = "0,...,Nk", value_delimiter = ',')]
    segments_k: Option<Vec<usize>>,
    /// Queries and keys of a block of the block mask, such as 128,128
    #[arg(long, value_name = "M,N", value_parser = block)]
    block: Option<[usize; 2]>,
    /// The probability with which the mask of dropout was drawn
    #[arg(long, value_name = "P", value_parser = probability)]
    dropout_p: Option<f64>,
    /// v is the first E features of k, which have one gradient, dkv
    #[arg(long, value_name = "E", value_parser = clap::value_parser!(u64).range(1..))]
    v_of_k: Option<u64>,
    /// The bias is added before the softcap, not after it
    #[arg(long)]
    bias_first: bool,
}

/// Options of the draw of a mask.
#[derive(Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct DrawOptions {
    /// Expected kept entries per row at most, above 0; inf keeps all [default: 30]
    #[arg(long, value_parser = budget, allow_negative_numbers = true)]
    c: Option<Budget>,
    /// How weights become keep probabilities: paper (default) or calibrated
    #[arg(long, value_name = "NAME")]
    rule: Option<Rule>,
    /// How probabilities become a mask: bernoulli (default) or systematic
    #[arg(long, value_name = "NAME")]
    sampler: Option<Sampler>,
    /// Seed of the random words [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Layer or step, below 2^31 [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..1 << 31))]
    stream: Option<u32>,
    /// Which random word decides which weight: coord4 (default), linear4, linear1, jax-threefry or arrival
    #[arg(long, value_name = "NAME")]
    layout: Option<Layout>,
    /// Random bits that decide an entry: 32 (default) or 64
    #[arg(long, value_name = "BITS", value_parser = uniform_bits)]
    uniform_bits: Option<UniformBits>,
}

impl ProblemOptions {
    /// The options that were given.
    pub(crate) fn settings(self) -> Settings {
        Settings::default()
            .with_scale(self.scale)
            .with_softcap(self.softcap)
            .with_causal(self.causal.then_some(true))
            .with_alignment(self.alignment)
            .with_window(self.window)
            .with_segments_q(self.segments_q)
            .with_segments_k(self.segments_k)
            .with_block(self.block)
            .with_dropout_p(self.dropout_p)
            .with_v_of_k(self.v_of_k.map(|count| count as usize))
            .with_bias_first(self.bias_first.then_some(true))
    }
}

impl DrawOptions {
    /// Adds the options that were given; any of them says that the pass is SUS.
    pub(crate) fn add_to(self, settings: Settings) -> Settings {
        let settings = settings
            .with_c(self.c)
            .with_rule(self.rule)
            .with_sampler(self.sampler)
            .with_seed(self.seed)
            .with_stream(self.stream)
            .with_layout(self.layout)
            .with_uniform_bits(self.uniform_bits);
        let pass = settings.names_a_draw().then_some(Pass::Sus);
        settings.with_pass(pass)
    }
}

fn finite(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|x: &f64| x.is_finite()).ok_or("expected a finite number")
}

fn probability(text: &str) -> Result<f64, &'static str> {
    let p = text.parse().ok().filter(|p| (0.0..1.0).contains(p));
    p.ok_or("expected a number from 0 to below 1")
}

fn block(text: &str) -> Result<[usize; 2], Error> {
    let side = |text: &str| text.parse().ok().filter(|&n| n > 0);
    let sides = text.split_once(',').and_then(|(m, n)| Some([side(m)?, side(n)?]));
    sides.ok_or_else(|| Error::option("block", "M,N, each above 0", text))
}

/// A budget, by its number or `inf`.
pub(crate) fn budget(text: &str) -> Result<Budget, Error> {
    let c = text.parse().map_err(|_| Error::option("c", "a number above 0, or inf", text))?;
    Budget::new(c)
}

fn window(text: &str) -> Result<Window, Error> {
    let wrong = || Error::option("window", "LEFT,RIGHT, each an integer from 0 or inf", text);
    let end = |text: &str| match text {
        "inf" => Ok(None),
        text => text.parse().map(Some).map_err(|_| wrong()),
    };
    let (left, right) = text.split_once(',').ok_or_else(wrong)?;
    Ok(Window { left: end(left)?, right: end(right)? })
}

fn uniform_bits(text: &str) -> Result<UniformBits, Error> {
    match text {
        "32" => Ok(UniformBits::Bits32),
        "64" => Ok(UniformBits::Bits64),
        _ => Err(Error::option("uniform_bits", "32 or 64", text)),
    }
}
