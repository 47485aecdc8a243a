(* The programs of the crate that branch on numbers, over any type of numbers with the operations that they use.

   Each definition follows the Rust function of the same name step by step, in the order in which the function
   computes. The theorems of Systematic.v, Optimal.v and Graph.v are about these definitions over an ordered field;
   Extraction.v turns the same definitions into OCaml, where they run over rationals beside the crate. *)

From mathcomp Require Import all_ssreflect.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

(* What the programs need of a number. *)
Record arithmetic (T : Type) := Arithmetic {
  zero : T;
  one : T;
  add : T -> T -> T;
  sub : T -> T -> T;
  mul : T -> T -> T;
  div : T -> T -> T;
  leb : T -> T -> bool;
  ltb : T -> T -> bool;
  eqb : T -> T -> bool }.

Section Programs.

Variables (T : Type) (A : arithmetic T).

(* How many elements satisfy a test, as a number: each adds `one`. *)
Definition count_as_number (test : T -> bool) (xs : seq T) : T :=
  foldl (fun n x => if test x then add A n (one A) else n) (zero A) xs.

(* ---- Rules ---- *)

(* `keep_probability(lambda, w)` *)
Definition keep_probability (lambda w : T) : T :=
  if leb A w (zero A) then zero A
  else let q := mul A lambda w in if ltb A q (one A) then q else one A.

(* `kept_weight(lambda, w)` *)
Definition kept_weight (lambda w : T) : T :=
  let least := div A (one A) lambda in if ltb A w least then least else w.

(* `expected_count(lambda, weights)` *)
Definition expected_count (lambda : T) (weights : seq T) : T :=
  foldl (fun sum w => add A sum (keep_probability lambda w)) (zero A) weights.

(* The sums of all but the m first elements, m = 0, 1, ..., each added from the last element on. *)
Fixpoint rests (descending : seq T) : seq T :=
  if descending is w :: tail then
    let sums := rests tail in add A (head (zero A) sums) w :: sums
  else [:: zero A].

(* The search of `water_level`: the first weight w with budget * w <= rest, the budget one less for each before it. *)
Fixpoint find_level (left : T) (descending : seq (T * T)) : option (T * T) :=
  if descending is (w, rest) :: tail then
    if leb A (mul A left w) rest then Some (div A left rest, rest)
    else find_level (sub A left (one A)) tail
  else None.

(* `water_level(c, weights)`: lambda and the sum of the weights that it does not saturate; None if all are kept. *)
Definition water_level (c : T) (weights : seq T) : option (T * T) :=
  let positive := filter (fun w => ltb A (zero A) w) weights in
  if leb A (count_as_number (fun _ => true) positive) c then None
  else
    let descending := sort (fun a b => leb A b a) positive in
    find_level c (zip descending (rests descending)).

(* ---- Samplers ---- *)

(* The loop of `systematic`: `n` is the index of the first element of `q`. *)
Fixpoint systematic_loop (limit : T) (q : seq T) (n : nat) (sum next : T) : seq nat :=
  if q is x :: tail then
    if leb A (one A) x then n :: systematic_loop limit tail n.+1 sum next
    else
      let added := add A sum x in
      let clipped := if ltb A limit added then limit else added in
      if ltb A (zero A) x && leb A next clipped
      then n :: systematic_loop limit tail n.+1 clipped (add A next (one A))
      else systematic_loop limit tail n.+1 clipped next
  else [::].

(* `systematic(q, u, most)`: the indices of the kept entries, ascending. *)
Definition systematic (q : seq T) (u most : T) : seq nat :=
  let outright := count_as_number (fun x => leb A (one A) x) q in
  let first := if eqb A u (zero A) then one A else u in
  systematic_loop (sub A most outright) q 0 (zero A) first.

(* ---- Decisions, with `grid` for 2^32 ---- *)

(* `keep32(q, x)` *)
Definition keep_word (grid q x : T) : bool := leb A (one A) q || ltb A x (mul A q grid).

(* `keep64(q, x, second)`; `floor` is the integer part of q * grid. *)
Definition keep_two_words (grid q floor x second : T) : bool :=
  if leb A (one A) q then true
  else
    let threshold := mul A q grid in
    if ltb A x floor then true
    else if eqb A x floor then ltb A second (mul A (sub A threshold floor) grid)
    else false.

(* ---- Graphs ---- *)

(* `Edge`: the node it leads to, the local derivative, and the gate it carries, if any. *)
Record edge := Edge { to : nat; derivative : T; gate : option nat }.

(* `Edge::gated` *)
Definition gated (multiplier : nat -> T) (e : edge) : T :=
  if gate e is Some g then mul A (derivative e) (multiplier g) else derivative e.

(* The adjoint of one node, given those of the nodes after it: `later` starts at node + 1. *)
Definition adjoint_of (multiplier : nat -> T) (out : seq edge) (node : nat) (later : seq T) : T :=
  foldl (fun sum e => add A sum (mul A (gated multiplier e) (nth (zero A) later (to e - node.+1)))) (zero A) out.

(* The adjoints of the nodes from `to - steps` on. *)
Fixpoint accumulate (graph : seq (seq edge)) (multiplier : nat -> T) (target steps : nat) : seq T :=
  if steps is steps'.+1 then
    let node := target - steps in
    let later := accumulate graph multiplier target steps' in
    adjoint_of multiplier (nth [::] graph node) node later :: later
  else one A :: nseq (size graph - target.+1) (zero A).

(* `Graph::derivatives_of(to, multiplier)`, by reverse accumulation. *)
Definition derivatives_of (graph : seq (seq edge)) (target : nat) (multiplier : nat -> T) : seq T :=
  accumulate graph multiplier target target.

(* Does a path from a node of `reached` pass an edge with gate `g`? `nodes` are those still to look at, ascending. *)
Fixpoint meets_gate (graph : seq (seq edge)) (g : nat) (nodes reached : seq nat) : bool :=
  if nodes is node :: nodes' then
    if has (eqn node) reached then
      let out := nth [::] graph node in
      if has (fun e => if gate e is Some g' then eqn g' g else false) out then true
      else meets_gate graph g nodes' (map to out ++ reached)
    else meets_gate graph g nodes' reached
  else false.

(* The first of some edges whose gate a path from its end passes again. *)
Fixpoint gate_met_again (graph : seq (seq edge)) (edges : seq edge) : option nat :=
  if edges is first :: edges' then
    if gate first is Some g then
      if meets_gate graph g (iota (to first) (size graph - to first)) [:: to first] then Some g
      else gate_met_again graph edges'
    else gate_met_again graph edges'
  else None.

(* `Graph::path_uses_a_gate_twice` *)
Definition path_uses_a_gate_twice (graph : seq (seq edge)) : option nat :=
  gate_met_again graph (flatten graph).

End Programs.

Arguments Edge {T}.
Arguments to {T}.
Arguments derivative {T}.
Arguments gate {T}.
