(** The attention program: forward pass, backward pass, and backward pass from given weights.

    Every function here is a function of the Rust crate, over an abstract scalar, with the same name and with its
    operations in the same order.  [ops] is the crate's trait [Scalar]; [problem] is [Problem].  Three instances are
    used: a ring or a field (unbiasedness), Coq's real numbers (the derivative), and nodes of a recorded run (the
    crate computes this program).

    A comparison does two things in the crate: it picks the largest score of a row, which shifts the exponents, and
    it picks the sign in [sech_squared] and the larger of a weight and [1 / lambda] in [kept_weight].  Here the
    result of each comparison is an argument ([choices], [light]).  So a theorem about this program holds for every
    result, and the program uses no order on scalars. *)
From Coq Require Import List ZArith Bool Arith.
Import ListNotations.

(** ** Scalars: the trait [Scalar] *)
Record ops (T : Type) := Ops {
  o_zero : T;
  o_one : T;
  o_least : T;            (* [from_f64(f64::NEG_INFINITY)]: the [lse] of a row that sees no key *)
  o_num : Z -> Z -> T;    (* [o_num m e] is [from_f64(m * 2^e)] *)
  o_add : T -> T -> T;
  o_sub : T -> T -> T;
  o_mul : T -> T -> T;
  o_div : T -> T -> T;
  o_opp : T -> T;
  o_exp : T -> T;
  o_ln : T -> T;
  o_tanh : T -> T;
  o_sqrt : T -> T
}.
Arguments o_zero {T}. Arguments o_one {T}. Arguments o_least {T}. Arguments o_num {T}. Arguments o_add {T}.
Arguments o_sub {T}. Arguments o_mul {T}. Arguments o_div {T}. Arguments o_opp {T}. Arguments o_exp {T}.
Arguments o_ln {T}. Arguments o_tanh {T}. Arguments o_sqrt {T}.

(** ** Problems: [problem.rs] *)

(** Query [r_i] of query head [r_h] of sequence [r_b]. *)
Record row := Row { r_b : nat; r_h : nat; r_i : nat }.

Record problem (T : Type) := Problem {
  p_batch : nat;                                (* B *)
  p_key_heads : nat;                            (* Hk *)
  p_group : nat;                                (* Hq / Hk *)
  p_queries : nat;                              (* Nq *)
  p_keys : nat;                                 (* Nk *)
  p_features : nat;                             (* D *)
  p_value_features : nat;                       (* E *)
  p_scale : T;
  p_softcap : option T;
  p_visible : nat -> nat -> bool;               (* does query i see key j? *)
  p_q : nat -> nat -> nat -> nat -> T;          (* [b, h, i, d] *)
  p_k : nat -> nat -> nat -> nat -> T;          (* [b, key head, j, d] *)
  p_v : nat -> nat -> nat -> nat -> T;          (* [b, key head, j, e] *)
  p_g : nat -> nat -> nat -> nat -> T;          (* [b, h, i, e], the cotangent of o *)
  p_dlse : option (nat -> nat -> nat -> T);     (* [b, h, i], the cotangent of lse *)
  p_bias : option (nat -> nat -> nat -> nat -> T);
  p_spread_b : bool;                            (* the bias has length 1 along the batch, and serves all of it *)
  p_spread_h : bool;                            (* along the query heads *)
  p_spread_i : bool;                            (* along the queries *)
  p_sink : option (nat -> T)                    (* [h] *)
}.
Arguments p_batch {T}. Arguments p_key_heads {T}. Arguments p_group {T}. Arguments p_queries {T}.
Arguments p_keys {T}. Arguments p_features {T}. Arguments p_value_features {T}. Arguments p_scale {T}.
Arguments p_softcap {T}. Arguments p_visible {T}. Arguments p_q {T}. Arguments p_k {T}. Arguments p_v {T}.
Arguments p_g {T}. Arguments p_dlse {T}. Arguments p_bias {T}. Arguments p_spread_b {T}.
Arguments p_spread_h {T}. Arguments p_spread_i {T}. Arguments p_sink {T}.

(** Hq. *)
Definition p_heads {T} (p : problem T) : nat := p_key_heads p * p_group p.

(** The key head that query head [h] reads. *)
Definition key_head {T} (p : problem T) (h : nat) : nat := h / p_group p.

(** All rows, in [(b, h, i)] order. *)
Definition rows_of (batch heads queries : list nat) : list row :=
  flat_map (fun b => flat_map (fun h => map (fun i => Row b h i) queries) heads) batch.

(** The results of the comparisons of a run. *)
Record choices := Choices {
  c_peak : row -> nat;              (* the place of the largest in the list of the sink (if any) and the scores *)
  c_negative : row -> nat -> bool   (* is [z / softcap] below zero? *)
}.

(** What the forward pass keeps for the backward pass: [Saved]. *)
Record saved (T : Type) := Saved { s_o : row -> nat -> T; s_lse : row -> T }.
Arguments Saved {T}. Arguments s_o {T}. Arguments s_lse {T}.

(** A matrix of weights that is read by rows: the trait [Weights].  Entries not kept are zero. *)
Record weights (T : Type) := Weights {
  w_kept : row -> nat -> bool;
  w_w : row -> nat -> T;
  w_slope : row -> nat -> T         (* d s_ij / d (q_i . k_j) *)
}.
Arguments Weights {T}. Arguments w_kept {T}. Arguments w_w {T}. Arguments w_slope {T}.

Section Program.
Context {T : Type} (K : ops T) (p : problem T).
Local Infix "+" := (o_add K).
Local Infix "-" := (o_sub K).
Local Infix "*" := (o_mul K).
Local Infix "/" := (o_div K).
Local Notation "- x" := (o_opp K x).
Local Notation "0" := (o_zero K).
Local Notation "1" := (o_one K).
Local Notation exp := (o_exp K).

(** A sum, first element first. *)
Definition sum {I} (l : list I) (f : I -> T) : T := fold_left (fun s n => s + f n) l 0.

(** [tensor::dot]. *)
Definition dot (n : nat) (a b : nat -> T) : T := sum (seq 0 n) (fun d => a d * b d).

(** The rows of the inputs, as [Problem::q], [k], [v], [g], [dlse], [bias] give them. *)
Definition q_of (r : row) : nat -> T := p_q p (r_b r) (r_h r) (r_i r).
Definition k_of (r : row) (j : nat) : nat -> T := p_k p (r_b r) (key_head p (r_h r)) j.
Definition v_of (r : row) (j : nat) : nat -> T := p_v p (r_b r) (key_head p (r_h r)) j.
Definition g_of (r : row) : nat -> T := p_g p (r_b r) (r_h r) (r_i r).
Definition dlse_of (r : row) : T :=
  match p_dlse p with None => 0 | Some dlse => dlse (r_b r) (r_h r) (r_i r) end.
Definition bias_row (r : row) : row :=
  Row (if p_spread_b p then O else r_b r) (if p_spread_h p then O else r_h r)
      (if p_spread_i p then O else r_i r).
Definition bias_of (r : row) (j : nat) : T :=
  match p_bias p with
  | None => 0
  | Some bias => let at_ := bias_row r in bias (r_b at_) (r_h at_) (r_i at_) j
  end.

(** [Problem::scale] where no scale is given. *)
Definition default_scale (features : nat) : T := 1 / o_sqrt K (o_num K (Z.of_nat features) 0).

(** ** The forward pass: [forward.rs] *)

Definition z_of (r : row) (j : nat) : T := p_scale p * dot (p_features p) (q_of r) (k_of r j).

(** [score(..).s]. *)
Definition score (r : row) (j : nat) : T :=
  let z := z_of r j in
  match p_softcap p with
  | None => z + bias_of r j
  | Some cap => cap * o_tanh K (z / cap) + bias_of r j
  end.

(** [1 / cosh^2 y]. *)
Definition sech_squared (negative : bool) (y : T) : T :=
  let magnitude := if negative then - y else y in
  let e := exp (- (magnitude + magnitude)) in
  let root := 1 + e in
  o_num K 4 0 * e / (root * root).

(** [score(..).slope]. *)
Definition slope (c : choices) (r : row) (j : nat) : T :=
  match p_softcap p with
  | None => p_scale p
  | Some cap => p_scale p * sech_squared (c_negative c r j) (z_of r j / cap)
  end.

(** [log_sum_exp], shifted by the term at place [peak]. *)
Definition log_sum_exp (peak : nat) (scores : list T) (sink : option T) : T :=
  match (match sink with None => scores | Some s => s :: scores end) with
  | [] => o_least K
  | terms =>
    let largest := nth peak terms (o_least K) in
    let keys := sum scores (fun s => exp (s - largest)) in
    let sink := match sink with None => 0 | Some s => exp (s - largest) end in
    largest + o_ln K (keys + sink)
  end.

(** The keys that a row sees, ascending. *)
Definition visible_keys (r : row) : list nat := filter (p_visible p (r_i r)) (seq 0 (p_keys p)).

Definition sink_of (r : row) : option T := option_map (fun sink => sink (r_h r)) (p_sink p).

Definition lse_of (c : choices) (r : row) : T :=
  log_sum_exp (c_peak c r) (map (score r) (visible_keys r)) (sink_of r).

Definition o_of (lse : T) (r : row) (e : nat) : T :=
  sum (visible_keys r) (fun j => exp (score r j - lse) * v_of r j e).

(** [forward]. *)
Definition forward (c : choices) : saved T :=
  Saved (fun r => o_of (lse_of c r) r) (lse_of c).

(** ** The backward pass: [backward.rs] *)

(** [DenseWeights]. *)
Definition dense_weights (c : choices) (s : saved T) : weights T :=
  Weights (fun r j => p_visible p (r_i r) j) (fun r j => exp (score r j - s_lse s r)) (slope c).

(** [delta]. *)
Definition delta (s : saved T) (r : row) : T := dot (p_value_features p) (g_of r) (s_o s r).

Section FromWeights.
Variables (w : weights T) (delta_ : row -> T).

Definition t_of (r : row) (j : nat) : T :=
  dot (p_value_features p) (g_of r) (v_of r j) - delta_ r + dlse_of r.

(** [query_gradient]. *)
Definition dq (r : row) (d : nat) : T :=
  sum (filter (w_kept w r) (seq 0 (p_keys p)))
      (fun j => w_w w r j * t_of r j * w_slope w r j * k_of r j d).

(** The rows of the query heads that read a key head: [rows_reading]. *)
Definition rows_reading (b kh : nat) : list row :=
  rows_of [b] (seq (Nat.mul kh (p_group p)) (p_group p)) (seq 0 (p_queries p)).

(** [key_gradients]. *)
Definition dk (b kh j d : nat) : T :=
  sum (filter (fun r => w_kept w r j) (rows_reading b kh))
      (fun r => w_w w r j * t_of r j * w_slope w r j * q_of r d).
Definition dv (b kh j e : nat) : T :=
  sum (filter (fun r => w_kept w r j) (rows_reading b kh)) (fun r => w_w w r j * g_of r e).

(** The rows that read a row of the bias: [rows_reading_bias]. *)
Definition rows_reading_bias (at_ : row) : list row :=
  let axis (spread : bool) (index length : nat) := if spread then seq 0 length else [index] in
  rows_of (axis (p_spread_b p) (r_b at_) (p_batch p)) (axis (p_spread_h p) (r_h at_) (p_heads p))
          (axis (p_spread_i p) (r_i at_) (p_queries p)).

(** [bias_gradient]. *)
Definition dbias (at_ : row) (j : nat) : T :=
  sum (filter (fun r => w_kept w r j) (rows_reading_bias at_)) (fun r => w_w w r j * t_of r j).
End FromWeights.

(** [sink_gradient]; read where the problem has a sink. *)
Definition dsink (s : saved T) (delta_ : row -> T) (h : nat) : T :=
  match p_sink p with
  | None => 0
  | Some sink =>
    fold_left (fun acc r => acc - exp (sink h - s_lse s r) * (delta_ r - dlse_of r))
              (rows_of (seq 0 (p_batch p)) [h] (seq 0 (p_queries p))) 0
  end.

(** [Gradients]. *)
Record gradients := Gradients {
  g_dq : row -> nat -> T;
  g_dk : nat -> nat -> nat -> nat -> T;
  g_dv : nat -> nat -> nat -> nat -> T;
  g_dbias : row -> nat -> T;
  g_dsink : nat -> T
}.

(** [backward_from_weights]; it has no [dsink]. *)
Definition backward_from_weights (w : weights T) (delta_ : row -> T) : gradients :=
  Gradients (dq w delta_) (dk w delta_) (dv w) (dbias w delta_) (fun _ => 0).

(** [backward_with]. *)
Definition backward_with (s : saved T) (w : weights T) : gradients :=
  let delta_ := delta s in
  Gradients (dq w delta_) (dk w delta_) (dv w) (dbias w delta_) (dsink s delta_).

(** [backward]. *)
Definition backward (c : choices) (s : saved T) : gradients := backward_with s (dense_weights c s).

(** ** The sampled backward pass: [sus/rule.rs], [sus/sample.rs] *)

(** [kept_weight]; [light] is the result of [w < 1 / lambda]. *)
Definition kept_weight (light : bool) (lambda w : T) : T := if light then 1 / lambda else w.

(** [SampledWeights]: [mask] is the drawn pattern, [lambda] the rate of each row. *)
Definition sampled_weights (mask light : row -> nat -> bool) (lambda : row -> T) (w : weights T) : weights T :=
  Weights mask (fun r j => kept_weight (light r j) (lambda r) (w_w w r j)) (w_slope w).

(** [sus_backward]. *)
Definition sus_backward (c : choices) (s : saved T) (mask light : row -> nat -> bool) (lambda : row -> T)
  : gradients :=
  backward_with s (sampled_weights mask light lambda (dense_weights c s)).
End Program.

Arguments Gradients {T}. Arguments g_dq {T}. Arguments g_dk {T}. Arguments g_dv {T}. Arguments g_dbias {T}.
Arguments g_dsink {T}.

(** ** The mask: [mask.rs] *)

(** [m_left], [m_right]: the window, [None] without limit.  [m_queries], [m_segment_keys]: cumulative lengths of
    packed sequences, from 0; without packing, [[0; Nq]] and [[0; Nk]]. *)
Record mask := Mask {
  m_causal : bool;
  m_top_left : bool;
  m_left : option Z;
  m_right : option Z;
  m_segment_queries : list nat;
  m_segment_keys : list nat
}.

(** The packed sequence that holds query [i]: the last one that starts at or before it. *)
Definition segment (m : mask) (i : nat) : nat :=
  pred (length (filter (fun start => Nat.leb start i) (m_segment_queries m))).

(** Does query [i] see key [j]?  The key is in the query's packed sequence, not after the diagonal where the mask
    is causal, and within the window about the diagonal.  The diagonal is [j = i + Nk - Nq] of that sequence
    (bottom right) or [j = i] (top left). *)
Definition visible (m : mask) (i j : nat) : bool :=
  let s := segment m i in
  let start l := Z.of_nat (nth s l O) in
  let end_ l := Z.of_nat (nth (S s) l O) in
  let first_query := start (m_segment_queries m) in
  let first_key := start (m_segment_keys m) in
  let queries := (end_ (m_segment_queries m) - first_query)%Z in
  let keys := (end_ (m_segment_keys m) - first_key)%Z in
  let query := (Z.of_nat i - first_query)%Z in
  let key := (Z.of_nat j - first_key)%Z in
  let diagonal := if m_top_left m then query else (query + keys - queries)%Z in
  ((0 <=? key) && (key <? keys)
   && (negb (m_causal m) || (key <=? diagonal))
   && match m_left m with None => true | Some before => diagonal - before <=? key end
   && match m_right m with None => true | Some after => key <=? diagonal + after end)%Z.
