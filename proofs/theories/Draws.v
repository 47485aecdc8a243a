(** Recorded draws: the masks that the crate's samplers drew, against the programs and the words that the theorems are
    about.

    A keep probability is a number in binary64, so a rational, and what was done with it is decided exactly here: an
    independent gate by the program [keep_word], a row of the systematic sampler by the program [systematic], and the
    words by [Philox.word] at the place of the row and the key within their packed sequence. *)
From Coq Require Import List ZArith NArith QArith Qround Bool Arith.
From SusOracle Require Import Exec Programs Philox.
Import ListNotations.
Local Open Scope nat_scope.

(** Rational numbers for [Programs]. *)
Definition rationals : arithmetic Q :=
  {| Programs.zero := 0; Programs.one := 1;
     Programs.add := fun a b => Qred (a + b); Programs.sub := fun a b => Qred (a - b);
     Programs.mul := fun a b => Qred (a * b); Programs.div := fun a b => Qred (a / b);
     Programs.leb := Qle_bool; Programs.ltb := fun a b => negb (Qle_bool b a); Programs.eqb := Qeq_bool |}%Q.

(** The number of words. *)
Definition grid : Q := inject_Z (2 ^ 32).

(** The number [m / 2^k] of binary64. *)
Definition dyadic (m k : Z) : Q := Qmake m (Z.to_pos (2 ^ k)).

(** ** Masks of a problem *)

(** The keep probabilities of the keys that a row sees, and the keys that it kept. *)
Record drawn_row := DrawnRow { d_row : row; d_q : list Q; d_kept : list nat }.

Inductive sampler := Bernoulli | Systematic (most : Q).

Record drawn := Drawn {
  d_sampler : sampler;
  d_seed : N;
  d_stream : N;
  d_batch : nat; d_heads : nat; d_queries : nat; d_keys : nat;
  d_mask : mask;
  d_rows : list drawn_row
}.

(** The word of a row and a key. A packed sequence counts as a sequence of the batch, and positions are within it. *)
Definition word_at (d : drawn) (second : bool) (r : row) (key : nat) : Q :=
  let segments := pred (length (m_segment_queries (d_mask d))) in
  let s := segment (d_mask d) (r_i r) in
  let bh := (r_b r * segments + s) * d_heads d + r_h r in
  let i := r_i r - nth s (m_segment_queries (d_mask d)) 0 in
  inject_Z (Z.of_N (word (d_seed d) (stream_of second (d_stream d)) (N.of_nat bh) (N.of_nat i) (N.of_nat key))).

Definition kept_by (d : drawn) (r : row) (q : list Q) : list nat :=
  let keys := filter (visible (d_mask d) (r_i r)) (seq 0 (d_keys d)) in
  let first := nth (segment (d_mask d) (r_i r)) (m_segment_keys (d_mask d)) 0 in
  match d_sampler d with
  | Bernoulli =>
    map fst (filter (fun '(j, q) => keep_word rationals grid q (word_at d false r (j - first))) (combine keys q))
  | Systematic most =>
    let u := Qred (word_at d true r 0 / grid) in
    map (fun n => nth n keys 0) (systematic rationals q u most)
  end.

Definition sees (d : drawn) (r : row) : nat := length (filter (visible (d_mask d) (r_i r)) (seq 0 (d_keys d))).

(** Every row of the problem is there, each visible key has a probability, and the kept keys are the program's. *)
Definition draw_is_the_program (d : drawn) : Prop :=
  map d_row (d_rows d) = rows_of (seq 0 (d_batch d)) (seq 0 (d_heads d)) (seq 0 (d_queries d))
  /\ Forall (fun r => length (d_q r) = sees d (d_row r) /\ d_kept r = kept_by d (d_row r) (d_q r)) (d_rows d).

(** Equality of rows and of lists, as a test. *)
Definition row_eqb (r s : row) : bool :=
  Nat.eqb (r_b r) (r_b s) && Nat.eqb (r_h r) (r_h s) && Nat.eqb (r_i r) (r_i s).

Fixpoint list_eqb {X} (eqb : X -> X -> bool) (l m : list X) : bool :=
  match l, m with
  | [], [] => true
  | x :: l, y :: m => eqb x y && list_eqb eqb l m
  | _, _ => false
  end.

Lemma list_eqb_eq {X} (eqb : X -> X -> bool) (l m : list X) :
  (forall x y, eqb x y = true -> x = y) -> list_eqb eqb l m = true -> l = m.
Proof.
  intros H. revert m. induction l as [|x l IH]; intros [|y m]; simpl; try discriminate; auto.
  intros E. apply andb_prop in E as [Ex El]. f_equal; auto.
Qed.

Definition check_draw (d : drawn) : bool :=
  list_eqb row_eqb (map d_row (d_rows d)) (rows_of (seq 0 (d_batch d)) (seq 0 (d_heads d)) (seq 0 (d_queries d)))
  && forallb (fun r => Nat.eqb (length (d_q r)) (sees d (d_row r))
                       && list_eqb Nat.eqb (d_kept r) (kept_by d (d_row r) (d_q r))) (d_rows d).

Theorem check_draw_sound d : check_draw d = true -> draw_is_the_program d.
Proof.
  intros H. apply andb_prop in H as [Hrows H]. split.
  - revert Hrows. apply list_eqb_eq. intros [b h i] [b' h' i']. unfold row_eqb. cbn.
    rewrite !andb_true_iff, !Nat.eqb_eq. intros [[-> ->] ->]. reflexivity.
  - apply Forall_forall. intros r Hr. rewrite forallb_forall in H. specialize (H r Hr).
    apply andb_prop in H as [Hl H]. split; [now apply Nat.eqb_eq|]. revert H. apply list_eqb_eq.
    intros x y. apply Nat.eqb_eq.
Qed.

(** ** Single calls of [systematic] *)

Record systematic_call := SystematicCall { y_q : list Q; y_u : Q; y_most : Q; y_kept : list nat }.

Definition check_call (y : systematic_call) : bool :=
  list_eqb Nat.eqb (y_kept y) (systematic rationals (y_q y) (y_u y) (y_most y)).

Theorem check_call_sound y :
  check_call y = true -> y_kept y = systematic rationals (y_q y) (y_u y) (y_most y).
Proof. apply list_eqb_eq. intros m n. apply Nat.eqb_eq. Qed.

(** ** Single words, and single decisions about them *)

Record recorded_word := RecordedWord { x_second : bool; x_seed : N; x_stream : N; x_bh : N; x_i : N; x_j : N; x_word : N }.

Definition check_word (x : recorded_word) : bool :=
  N.eqb (x_word x) (word (x_seed x) (stream_of (x_second x) (x_stream x)) (x_bh x) (x_i x) (x_j x)).

Theorem check_word_sound x : check_word x = true ->
  x_word x = word (x_seed x) (stream_of (x_second x) (x_stream x)) (x_bh x) (x_i x) (x_j x).
Proof. apply N.eqb_eq. Qed.

(** What [keep32] said about a word, and [keep64] about the word and a second one. *)
Record decision := Decision { e_q : Q; e_word : N; e_second : N; e_keep32 : bool; e_keep64 : bool }.

Definition number (n : N) : Q := inject_Z (Z.of_N n).

Definition check_decision (e : decision) : bool :=
  Bool.eqb (e_keep32 e) (keep_word rationals grid (e_q e) (number (e_word e)))
  && Bool.eqb (e_keep64 e) (keep_two_words rationals grid (e_q e) (inject_Z (Qround.Qfloor (e_q e * grid)))
                              (number (e_word e)) (number (e_second e))).

Theorem check_decision_sound e : check_decision e = true ->
  e_keep32 e = keep_word rationals grid (e_q e) (number (e_word e))
  /\ e_keep64 e = keep_two_words rationals grid (e_q e) (inject_Z (Qround.Qfloor (e_q e * grid)))
                    (number (e_word e)) (number (e_second e)).
Proof. intros H. apply andb_prop in H as [H1 H2]. split; now apply eqb_prop. Qed.
