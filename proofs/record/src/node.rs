//! A scalar that records: each value is a node of one shared graph of terms, beside its number in `f64`.
//!
//! Equal terms are one node, so the record does not depend on how often, or in which order, a term is computed.

use num_traits::{One, Zero};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use sus_reference::scalar::Scalar;

/// The number of a term in the graph. Operands come before what is computed from them.
pub type Id = usize;

/// A term: an operation and the terms it was applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Term {
    /// `T::zero()`.
    Zero,
    /// `T::one()`.
    One,
    /// `T::from_f64` of the number with these bits.
    Number(u64),
    /// An element of an input.
    Read(Input, [usize; 4]),
    /// `-a`, `a.exp()` and the like.
    Unary(Unary, Id),
    /// `a + b` and the like.
    Binary(Binary, Id, Id),
}

/// What a run reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// The cotangent of `o`.
    G,
    /// The cotangent of `lse`.
    Dlse,
    /// The bias.
    Bias,
    /// The sinks.
    Sink,
    /// An `o` that is given.
    O,
    /// An `lse` that is given.
    Lse,
    /// A weight that is given.
    W,
    /// A slope that is given.
    Slope,
    /// A `delta` that is given.
    Delta,
}

/// Operations with one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unary {
    /// `-a`
    Opp,
    /// `a.exp()`
    Exp,
    /// `a.ln()`
    Ln,
    /// `a.tanh()`
    Tanh,
    /// `a.sqrt()`
    Sqrt,
}

/// Operations with two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
}

/// The scalar. `==` and `<` compare values, as they do for every other scalar.
#[derive(Debug, Clone, Copy)]
pub struct Node(Id);

#[derive(Default)]
struct Graph {
    terms: Vec<(Term, f64)>,
    index: HashMap<Term, Id>,
}

static GRAPH: LazyLock<Mutex<Graph>> = LazyLock::new(Mutex::default);

fn graph() -> MutexGuard<'static, Graph> {
    GRAPH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The node of a term; `value` is computed where the term is new.
fn node(term: Term, value: impl FnOnce(&Graph) -> f64) -> Node {
    let mut graph = graph();
    if let Some(&id) = graph.index.get(&term) {
        return Node(id);
    }
    let (id, value) = (graph.terms.len(), value(&graph));
    graph.terms.push((term, value));
    graph.index.insert(term, id);
    Node(id)
}

impl Node {
    /// An element of an input, of this value. The first value that it is given stays.
    pub fn variable(input: Input, at: [usize; 4], value: f64) -> Node {
        node(Term::Read(input, at), |_| value)
    }

    /// Forgets every term. Nodes made before are void.
    pub fn forget_all() {
        *graph() = Graph::default();
    }

    /// Its number in the graph.
    pub fn id(self) -> Id {
        self.0
    }

    /// Its term.
    pub fn term(id: Id) -> Term {
        graph().terms[id].0
    }

    fn value(self) -> f64 {
        graph().terms[self.0].1
    }

    fn unary(op: Unary, a: Node) -> Node {
        node(Term::Unary(op, a.0), |graph| {
            let a = graph.terms[a.0].1;
            match op {
                Unary::Opp => -a,
                Unary::Exp => Scalar::exp(a),
                Unary::Ln => Scalar::ln(a),
                Unary::Tanh => Scalar::tanh(a),
                Unary::Sqrt => Scalar::sqrt(a),
            }
        })
    }

    fn binary(op: Binary, a: Node, b: Node) -> Node {
        node(Term::Binary(op, a.0, b.0), |graph| {
            let (a, b) = (graph.terms[a.0].1, graph.terms[b.0].1);
            match op {
                Binary::Add => a + b,
                Binary::Sub => a - b,
                Binary::Mul => a * b,
                Binary::Div => a / b,
            }
        })
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.value() == other.value()
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Node) -> Option<Ordering> {
        self.value().partial_cmp(&other.value())
    }
}

macro_rules! operators {
    ($($op:ident $method:ident $assign:ident $assign_method:ident;)*) => {$(
        impl $op for Node {
            type Output = Node;
            fn $method(self, other: Node) -> Node {
                Node::binary(Binary::$op, self, other)
            }
        }
        impl $assign for Node {
            fn $assign_method(&mut self, other: Node) {
                *self = Node::binary(Binary::$op, *self, other);
            }
        }
    )*};
}

operators! {
    Add add AddAssign add_assign;
    Sub sub SubAssign sub_assign;
    Mul mul MulAssign mul_assign;
    Div div DivAssign div_assign;
}

impl Neg for Node {
    type Output = Node;
    fn neg(self) -> Node {
        Node::unary(Unary::Opp, self)
    }
}

impl Zero for Node {
    fn zero() -> Node {
        node(Term::Zero, |_| 0.0)
    }
    fn is_zero(&self) -> bool {
        self.value() == 0.0
    }
}

impl One for Node {
    fn one() -> Node {
        node(Term::One, |_| 1.0)
    }
}

impl Scalar for Node {
    fn from_f64(x: f64) -> Node {
        node(Term::Number(x.to_bits()), |_| x)
    }
    fn to_f64(self) -> f64 {
        self.value()
    }
    fn exp(self) -> Node {
        Node::unary(Unary::Exp, self)
    }
    fn ln(self) -> Node {
        Node::unary(Unary::Ln, self)
    }
    fn tanh(self) -> Node {
        Node::unary(Unary::Tanh, self)
    }
    fn sqrt(self) -> Node {
        Node::unary(Unary::Sqrt, self)
    }
}
