(** Recorded runs.

    The crate's passes, run over a scalar that records, leave a table of nodes (one per term, its operands before it)
    and, for each element of each result, the number of a node.  [check] runs the program of [Exec] over numbers of
    nodes: an operation looks its node up in the table.  [check_sound] says what a successful check means: over
    every scalar and for all values of the inputs, the recorded term of each result is the program's result. *)
From Coq Require Import List ZArith Bool Arith FMapPositive Lia.
From SusOracle Require Import Exec Relation.
Import ListNotations.

(** ** Nodes *)

(** What a run reads.  The last five are read where an earlier stage's results are given. *)
Inductive input := IQ | IK | IV | IG | IDlse | IBias | ISink | IO | ILse | IW | ISlope | IDelta.

Inductive node :=
  | Zero | One | Least
  | Number (m e : Z)                            (* m * 2^e *)
  | Read (t : input) (b h i d : nat)
  | Opp (a : positive) | Exp (a : positive) | Ln (a : positive) | Tanh (a : positive) | Sqrt (a : positive)
  | Add (a b : positive) | Sub (a b : positive) | Mul (a b : positive) | Div (a b : positive).

Definition input_eqb (t u : input) : bool :=
  match t, u with
  | IQ, IQ | IK, IK | IV, IV | IG, IG | IDlse, IDlse | IBias, IBias | ISink, ISink | IO, IO | ILse, ILse
  | IW, IW | ISlope, ISlope | IDelta, IDelta => true
  | _, _ => false
  end.

Definition node_eqb (m n : node) : bool :=
  match m, n with
  | Zero, Zero | One, One | Least, Least => true
  | Number m e, Number m' e' => Z.eqb m m' && Z.eqb e e'
  | Read t b h i d, Read t' b' h' i' d' =>
    input_eqb t t' && Nat.eqb b b' && Nat.eqb h h' && Nat.eqb i i' && Nat.eqb d d'
  | Opp a, Opp a' | Exp a, Exp a' | Ln a, Ln a' | Tanh a, Tanh a' | Sqrt a, Sqrt a' => Pos.eqb a a'
  | Add a b, Add a' b' | Sub a b, Sub a' b' | Mul a b, Mul a' b' | Div a b, Div a' b' =>
    Pos.eqb a a' && Pos.eqb b b'
  | _, _ => false
  end.

Lemma node_eqb_eq m n : node_eqb m n = true -> m = n.
Proof.
  destruct m, n; simpl; try discriminate; auto; rewrite ?andb_true_iff, ?Z.eqb_eq, ?Nat.eqb_eq, ?Pos.eqb_eq;
    intros; intuition (subst; auto).
  f_equal. destruct t, t0; simpl in *; congruence.
Qed.

(** Values of all the inputs of a run. *)
Definition inputs (T : Type) := input -> nat -> nat -> nat -> nat -> T.

Section Value.
Context {T : Type} (K : ops T) (x : inputs T).

Definition value_of_node (value : positive -> T) (n : node) : T :=
  match n with
  | Zero => o_zero K
  | One => o_one K
  | Least => o_least K
  | Number m e => o_num K m e
  | Read t b h i d => x t b h i d
  | Opp a => o_opp K (value a)
  | Exp a => o_exp K (value a)
  | Ln a => o_ln K (value a)
  | Tanh a => o_tanh K (value a)
  | Sqrt a => o_sqrt K (value a)
  | Add a b => o_add K (value a) (value b)
  | Sub a b => o_sub K (value a) (value b)
  | Mul a b => o_mul K (value a) (value b)
  | Div a b => o_div K (value a) (value b)
  end.

(** The value of a node of a table; the table is given last node first, and its first node has number 1. *)
Fixpoint value_in (reversed : list node) (id : positive) : T :=
  match reversed with
  | [] => o_zero K
  | n :: rest =>
    if Pos.eqb id (Pos.of_succ_nat (length rest)) then value_of_node (value_in rest) n else value_in rest id
  end.
End Value.

Definition value {T} (K : ops T) (x : inputs T) (table : list node) : positive -> T :=
  value_in K x (rev_append table []).

(** Every operand of [n] has a number below [next]. *)
Definition below (next : positive) (n : node) : bool :=
  match n with
  | Zero | One | Least | Number _ _ | Read _ _ _ _ _ => true
  | Opp a | Exp a | Ln a | Tanh a | Sqrt a => Pos.ltb a next
  | Add a b | Sub a b | Mul a b | Div a b => Pos.ltb a next && Pos.ltb b next
  end.

(** A table by numbers, the next number, and whether every node's operands come before it. *)
Record numbered := Numbered { n_nodes : PositiveMap.t node; n_next : positive; n_ordered : bool }.

Fixpoint number_nodes (reversed : list node) : numbered :=
  match reversed with
  | [] => Numbered (PositiveMap.empty node) 1 true
  | n :: rest =>
    let t := number_nodes rest in
    Numbered (PositiveMap.add (n_next t) n (n_nodes t)) (Pos.succ (n_next t)) (n_ordered t && below (n_next t) n)
  end.

Lemma next_is l : n_next (number_nodes l) = Pos.of_succ_nat (length l).
Proof. induction l as [|n l IH]; simpl; auto. now rewrite IH. Qed.

Lemma number_below l id n :
  PositiveMap.find id (n_nodes (number_nodes l)) = Some n -> (id < n_next (number_nodes l))%positive.
Proof.
  induction l as [|m l IH]; simpl; [now rewrite PositiveMap.gempty|].
  destruct (Pos.eq_dec id (n_next (number_nodes l))) as [->|Hne]; [lia|].
  rewrite PositiveMap.gso by auto. intros H. apply IH in H. lia.
Qed.

Lemma below_mono p p' n : (p <= p')%positive -> below p n = true -> below p' n = true.
Proof. destruct n; cbn [below]; auto; rewrite ?andb_true_iff, ?Pos.ltb_lt; lia. Qed.

Lemma ordered_below l id n :
  n_ordered (number_nodes l) = true -> PositiveMap.find id (n_nodes (number_nodes l)) = Some n ->
  below (n_next (number_nodes l)) n = true.
Proof.
  induction l as [|m l IH]; simpl; [now rewrite PositiveMap.gempty|].
  intros Hl Hn. apply andb_prop in Hl as [Hl Hm].
  apply (below_mono (n_next (number_nodes l))); [lia|].
  destruct (Pos.eq_dec id (n_next (number_nodes l))) as [->|Hne].
  - rewrite PositiveMap.gss in Hn. now injection Hn as <-.
  - rewrite PositiveMap.gso in Hn by auto. auto.
Qed.

(** In an ordered table a node's value is its operation applied to the values of its operands. *)
Lemma value_in_node {T} (K : ops T) x l id n :
  n_ordered (number_nodes l) = true -> PositiveMap.find id (n_nodes (number_nodes l)) = Some n ->
  value_in K x l id = value_of_node K x (value_in K x l) n.
Proof.
  assert (Hsame : forall m rest, below (n_next (number_nodes rest)) n = true ->
            value_of_node K x (value_in K x (m :: rest)) n = value_of_node K x (value_in K x rest) n).
  { intros m rest. rewrite next_is.
    assert (Ha : forall a, (a < Pos.of_succ_nat (length rest))%positive ->
              value_in K x (m :: rest) a = value_in K x rest a)
      by (intros a Ha; simpl; destruct (Pos.eqb_spec a (Pos.of_succ_nat (length rest))); auto; lia).
    destruct n; cbn [below value_of_node]; rewrite ?andb_true_iff, ?Pos.ltb_lt; intros Hb; auto; rewrite !Ha;
      intuition. }
  induction l as [|m l IH]; intros Hl Hn; [simpl in Hn; now rewrite PositiveMap.gempty in Hn|].
  simpl in Hl, Hn. apply andb_prop in Hl as [Hl Hm].
  destruct (Pos.eq_dec id (n_next (number_nodes l))) as [->|Hne].
  - rewrite PositiveMap.gss in Hn. injection Hn as ->. rewrite Hsame by assumption.
    simpl. now rewrite next_is, Pos.eqb_refl.
  - rewrite PositiveMap.gso in Hn by auto. rewrite Hsame by (apply (ordered_below _ _ _ Hl Hn)).
    rewrite <- IH by auto. simpl. rewrite <- next_is. now apply Pos.eqb_neq in Hne as ->.
Qed.

(** ** Looking a node up *)

(** Two keys per node; what they find is compared with the node, so nothing is proved about them. *)
Definition key_of_Z (z : Z) : positive :=
  match z with Z0 => 1 | Zpos p => xO p | Zneg p => xI p end%positive.
Definition key_of_input (t : input) : positive :=
  match t with
  | IQ => 1 | IK => 2 | IV => 3 | IG => 4 | IDlse => 5 | IBias => 6 | ISink => 7 | IO => 8 | ILse => 9
  | IW => 10 | ISlope => 11 | IDelta => 12
  end%positive.
Definition keys_of (n : node) : positive * positive :=
  let tag (t a : positive) := (16 * a + t)%positive in
  match n with
  | Zero => (1, 1) | One => (1, 2) | Least => (1, 3)
  | Number m e => (tag 2 (key_of_Z m), key_of_Z e)
  | Read t b h i d =>
    let digit (n : N) (a : nat) := (1024 * n + N.of_nat a)%N in
    (tag 3 (key_of_input t), N.succ_pos (digit (digit (digit (N.of_nat b) h) i) d))
  | Opp a => (tag 4 a, 1) | Exp a => (tag 5 a, 1) | Ln a => (tag 6 a, 1) | Tanh a => (tag 7 a, 1)
  | Sqrt a => (tag 8 a, 1)
  | Add a b => (tag 9 a, b) | Sub a b => (tag 10 a, b) | Mul a b => (tag 11 a, b) | Div a b => (tag 12 a, b)
  end%positive.

Definition index := PositiveMap.t (PositiveMap.t positive).

Definition index_add (t : index) (n : node) (id : positive) : index :=
  let (first, second) := keys_of n in
  let row := match PositiveMap.find first t with Some row => row | None => PositiveMap.empty positive end in
  PositiveMap.add first (PositiveMap.add second id row) t.

Fixpoint index_nodes (table : list node) (next : positive) (t : index) : index :=
  match table with
  | [] => t
  | n :: rest => index_nodes rest (Pos.succ next) (index_add t n next)
  end.

Definition find_node (nodes : PositiveMap.t node) (t : index) (n : node) : option positive :=
  let (first, second) := keys_of n in
  match PositiveMap.find first t with
  | None => None
  | Some row =>
    match PositiveMap.find second row with
    | None => None
    | Some id =>
      match PositiveMap.find id nodes with
      | Some m => if node_eqb m n then Some id else None
      | None => None
      end
    end
  end.

Lemma find_node_sound nodes t n id : find_node nodes t n = Some id -> PositiveMap.find id nodes = Some n.
Proof.
  unfold find_node. destruct (keys_of n) as [first second].
  destruct (PositiveMap.find first t) as [row|]; try discriminate.
  destruct (PositiveMap.find second row) as [j|]; try discriminate.
  destruct (PositiveMap.find j nodes) as [m|] eqn:Hj; try discriminate.
  destruct (node_eqb m n) eqn:Hm; try discriminate.
  intros H. injection H as <-. now rewrite <- (node_eqb_eq _ _ Hm).
Qed.

(** Numbers of nodes as scalars: an operation finds its node, or nothing. *)
Section Lookup.
Variable find : node -> option positive.

Definition unary (op : positive -> node) (a : option positive) : option positive :=
  match a with Some a => find (op a) | None => None end.
Definition binary (op : positive -> positive -> node) (a b : option positive) : option positive :=
  match a, b with Some a, Some b => find (op a b) | _, _ => None end.

Definition lookup_ops : ops (option positive) :=
  {| o_zero := find Zero; o_one := find One; o_least := find Least;
     o_num := fun m e => find (Number m e);
     o_add := binary Add; o_sub := binary Sub; o_mul := binary Mul; o_div := binary Div;
     o_opp := unary Opp; o_exp := unary Exp; o_ln := unary Ln; o_tanh := unary Tanh; o_sqrt := unary Sqrt |}.

Definition lookup_inputs : inputs (option positive) := fun t b h i d => find (Read t b h i d).
End Lookup.

(** What was found has the value that it should have. *)
Definition found {T} (val : positive -> T) (a : option positive) (v : T) : Prop :=
  forall id, a = Some id -> val id = v.

Lemma lookup_related {T} (K : ops T) (x : inputs T) (find : node -> option positive) (val : positive -> T) :
  (forall n id, find n = Some id -> val id = value_of_node K x val n) ->
  ops_related (found val) (lookup_ops find) K.
Proof.
  intros H. split; intros; unfold found in *; simpl; intros id Hid; unfold unary, binary in Hid;
    repeat match goal with a : option positive |- _ => destruct a; try discriminate end;
    rewrite (H _ _ Hid); simpl; repeat match goal with Ha : forall _, Some _ = Some _ -> _ |- _ =>
      rewrite (Ha _ eq_refl); clear Ha end; reflexivity.
Qed.

(** ** Cases *)

Definition dims4 := list (list (list (list positive))).
Definition at4 (l : dims4) (b h i d : nat) : positive := nth d (nth i (nth h (nth b l []) []) []) 1%positive.
Definition at3 {X} (l : list (list (list X))) (b h i : nat) (x : X) : X := nth i (nth h (nth b l []) []) x.

Record recorded_gradients := RecordedGradients {
  t_dq : dims4; t_dk : dims4; t_dv : dims4; t_dbias : dims4; t_dsink : list positive
}.

(** A drawn mask and the gradients that came of it: per row, the rate, the kept keys, and those of them whose
    weight was found below [1 / lambda]. *)
Record recorded_sample := RecordedSample {
  t_lambda : list (list (list (Z * Z)));
  t_mask : list (list (list (list nat)));
  t_light : list (list (list (list nat)));
  t_sampled : recorded_gradients
}.

Record case := Case {
  c_batch : nat; c_key_heads : nat; c_group : nat; c_queries : nat; c_keys : nat; c_features : nat;
  c_value_features : nat;
  c_scale : option (Z * Z);                  (* [None]: the default *)
  c_softcap : option (Z * Z);
  c_mask : mask;
  c_dlse : bool; c_bias : bool; c_sink : bool;
  c_spread_b : bool; c_spread_h : bool; c_spread_i : bool;
  c_peaks : list (list (list nat));
  c_negatives : list (list (list (list nat)));  (* the keys of each row for which [z / softcap] is below zero *)
  c_table : list node;
  c_o : dims4; c_lse : dims4;
  c_backward : recorded_gradients;           (* from the forward pass of the same run *)
  c_given : recorded_gradients;              (* from an [o] and an [lse] that are inputs *)
  c_free : recorded_gradients;               (* from weights, slopes and a [delta] that are inputs *)
  c_samples : list recorded_sample
}.

Definition member (l : list (list (list (list nat)))) (r : row) (j : nat) : bool :=
  existsb (Nat.eqb j) (at3 l (r_b r) (r_h r) (r_i r) []).

Section Case.
Variable c : case.

Definition choices_of : choices :=
  {| c_peak := fun r => at3 (c_peaks c) (r_b r) (r_h r) (r_i r) O;
     c_negative := member (c_negatives c) |}.

Section Scalar.
Context {T : Type} (K : ops T) (x : inputs T).

(** The problem that was run, its inputs being [x]. *)
Definition problem_of : problem T :=
  {| p_batch := c_batch c; p_key_heads := c_key_heads c; p_group := c_group c; p_queries := c_queries c;
     p_keys := c_keys c; p_features := c_features c; p_value_features := c_value_features c;
     p_scale := match c_scale c with None => default_scale K (c_features c) | Some (m, e) => o_num K m e end;
     p_softcap := option_map (fun '(m, e) => o_num K m e) (c_softcap c);
     p_visible := visible (c_mask c);
     p_q := x IQ; p_k := x IK; p_v := x IV; p_g := x IG;
     p_dlse := if c_dlse c then Some (fun b h i => x IDlse b h i O) else None;
     p_bias := if c_bias c then Some (x IBias) else None;
     p_spread_b := c_spread_b c; p_spread_h := c_spread_h c; p_spread_i := c_spread_i c;
     p_sink := if c_sink c then Some (fun h => x ISink O O O h) else None |}.

Definition given_saved : saved T :=
  {| s_o := fun r e => x IO (r_b r) (r_h r) (r_i r) e; s_lse := fun r => x ILse (r_b r) (r_h r) (r_i r) O |}.

Definition free_weights : weights T :=
  {| w_kept := fun r j => visible (c_mask c) (r_i r) j;
     w_w := fun r j => x IW (r_b r) (r_h r) (r_i r) j;
     w_slope := fun r j => x ISlope (r_b r) (r_h r) (r_i r) j |}.

Definition free_delta (r : row) : T := x IDelta (r_b r) (r_h r) (r_i r) O.

Definition lambda_of (s : recorded_sample) (r : row) : T :=
  let (m, e) := at3 (t_lambda s) (r_b r) (r_h r) (r_i r) (0, 0)%Z in o_num K m e.
End Scalar.

Definition heads : nat := c_key_heads c * c_group c.

(** The lengths of the bias's axes. *)
Definition bias_batch : nat := if c_spread_b c then 1 else c_batch c.
Definition bias_heads : nat := if c_spread_h c then 1 else heads.
Definition bias_queries : nat := if c_spread_i c then 1 else c_queries c.

(** ** What a record says *)

(** The nested lists have this shape exactly. *)
Definition shaped (n1 n2 n3 n4 : nat) (l : dims4) : bool :=
  Nat.eqb (length l) n1 && forallb (fun l => Nat.eqb (length l) n2 && forallb (fun l => Nat.eqb (length l) n3
    && forallb (fun l => Nat.eqb (length l) n4) l) l) l.

Section Statement.
Context {T : Type} (val : positive -> T).

(** A recorded tensor has this shape, and its elements have these values. *)
Definition tensor_is (n1 n2 n3 n4 : nat) (l : dims4) (f : nat -> nat -> nat -> nat -> T) : Prop :=
  shaped n1 n2 n3 n4 l = true
  /\ forall b h i d, b < n1 -> h < n2 -> i < n3 -> d < n4 -> val (at4 l b h i d) = f b h i d.

Definition saved_is (s : saved T) : Prop :=
  tensor_is (c_batch c) heads (c_queries c) (c_value_features c) (c_o c) (fun b h i e => s_o s (Row b h i) e)
  /\ tensor_is (c_batch c) heads (c_queries c) 1 (c_lse c) (fun b h i _ => s_lse s (Row b h i)).

Definition core_gradients_are (g : @gradients T) (t : recorded_gradients) : Prop :=
  tensor_is (c_batch c) heads (c_queries c) (c_features c) (t_dq t) (fun b h i d => g_dq g (Row b h i) d)
  /\ tensor_is (c_batch c) (c_key_heads c) (c_keys c) (c_features c) (t_dk t) (g_dk g)
  /\ tensor_is (c_batch c) (c_key_heads c) (c_keys c) (c_value_features c) (t_dv t) (g_dv g)
  /\ (c_bias c = true ->
      tensor_is bias_batch bias_heads bias_queries (c_keys c) (t_dbias t) (fun b h i j => g_dbias g (Row b h i) j)).

Definition gradients_are (g : @gradients T) (t : recorded_gradients) : Prop :=
  core_gradients_are g t
  /\ (c_sink c = true -> length (t_dsink t) = heads /\ forall h, h < heads -> val (nth h (t_dsink t) 1%positive) = g_dsink g h).
End Statement.

(** Every recorded result is the program's, over the scalar [K] and for the inputs [x]. *)
Definition recorded {T} (K : ops T) (x : inputs T) : Prop :=
  let val := value K x (c_table c) in
  let p := problem_of K x in
  let run := forward K p choices_of in
  saved_is val run
  /\ gradients_are val (backward K p choices_of run) (c_backward c)
  /\ gradients_are val (backward K p choices_of (given_saved x)) (c_given c)
  /\ core_gradients_are val (backward_from_weights K p (free_weights x) (free_delta x)) (c_free c)
  /\ Forall (fun s => gradients_are val
       (sus_backward K p choices_of run (member (t_mask s)) (member (t_light s)) (lambda_of K s)) (t_sampled s))
       (c_samples c).

(** ** The check *)

Fixpoint all_below (n : nat) (f : nat -> bool) : bool :=
  match n with O => true | S n => f n && all_below n f end.

Lemma all_below_spec n f : all_below n f = true -> forall i, i < n -> f i = true.
Proof.
  induction n as [|n IH]; simpl; intros H i Hi; [lia|]. apply andb_prop in H as [Hn H].
  destruct (Nat.eq_dec i n) as [->|Hne]; auto. apply IH; auto. lia.
Qed.

Definition is_node (a : option positive) (id : positive) : bool :=
  match a with Some a => Pos.eqb a id | None => false end.

Lemma is_node_eq a id : is_node a id = true -> a = Some id.
Proof. destruct a; simpl; try discriminate. rewrite Pos.eqb_eq. now intros ->. Qed.

Definition check_tensor (n1 n2 n3 n4 : nat) (l : dims4) (f : nat -> nat -> nat -> nat -> option positive) : bool :=
  shaped n1 n2 n3 n4 l
  && all_below n1 (fun b => all_below n2 (fun h => all_below n3 (fun i => all_below n4 (fun d =>
       is_node (f b h i d) (at4 l b h i d))))).

Definition check_saved (s : saved (option positive)) : bool :=
  check_tensor (c_batch c) heads (c_queries c) (c_value_features c) (c_o c) (fun b h i e => s_o s (Row b h i) e)
  && check_tensor (c_batch c) heads (c_queries c) 1 (c_lse c) (fun b h i _ => s_lse s (Row b h i)).

Definition check_core (g : @gradients (option positive)) (t : recorded_gradients) : bool :=
  check_tensor (c_batch c) heads (c_queries c) (c_features c) (t_dq t) (fun b h i d => g_dq g (Row b h i) d)
  && check_tensor (c_batch c) (c_key_heads c) (c_keys c) (c_features c) (t_dk t) (g_dk g)
  && check_tensor (c_batch c) (c_key_heads c) (c_keys c) (c_value_features c) (t_dv t) (g_dv g)
  && (negb (c_bias c)
      || check_tensor bias_batch bias_heads bias_queries (c_keys c) (t_dbias t) (fun b h i j => g_dbias g (Row b h i) j)).

Definition check_gradients (g : @gradients (option positive)) (t : recorded_gradients) : bool :=
  check_core g t
  && (negb (c_sink c)
      || (Nat.eqb (length (t_dsink t)) heads
          && all_below heads (fun h => is_node (g_dsink g h) (nth h (t_dsink t) 1%positive)))).

(** The forward pass as it was recorded. *)
Definition recorded_saved : saved (option positive) :=
  let inside r := (r_b r <? c_batch c) && (r_h r <? heads) && (r_i r <? c_queries c) in
  {| s_o := fun r e =>
       if inside r && (e <? c_value_features c) then Some (at4 (c_o c) (r_b r) (r_h r) (r_i r) e) else None;
     s_lse := fun r => if inside r then Some (at4 (c_lse c) (r_b r) (r_h r) (r_i r) O) else None |}.

Definition check : bool :=
  let numbered := number_nodes (rev_append (c_table c) []) in
  let nodes := n_nodes numbered in
  let t := index_nodes (c_table c) 1 (PositiveMap.empty _) in
  let find := find_node nodes t in
  let K := lookup_ops find in
  let x := lookup_inputs find in
  let p := problem_of K x in
  n_ordered numbered
  && check_saved (forward K p choices_of)
  && check_gradients (backward K p choices_of recorded_saved) (c_backward c)
  && check_gradients (backward K p choices_of (given_saved x)) (c_given c)
  && check_core (backward_from_weights K p (free_weights x) (free_delta x)) (c_free c)
  && forallb (fun s => check_gradients
       (sus_backward K p choices_of recorded_saved (member (t_mask s)) (member (t_light s)) (lambda_of K s))
       (t_sampled s)) (c_samples c).

(** ** What the check means *)

Section Sound.
Context {T : Type} (val : positive -> T).

Lemma check_tensor_sound n1 n2 n3 n4 l f g :
  (forall b h i d, found val (f b h i d) (g b h i d)) -> check_tensor n1 n2 n3 n4 l f = true ->
  tensor_is val n1 n2 n3 n4 l g.
Proof.
  intros Hf H. apply andb_prop in H as [Hl H]. split; auto. intros b h i d Hb Hh Hi Hd.
  apply all_below_spec with (i := b) in H; auto. apply all_below_spec with (i := h) in H; auto.
  apply all_below_spec with (i := i) in H; auto. apply all_below_spec with (i := d) in H; auto.
  apply (Hf b h i d). now apply is_node_eq.
Qed.

Lemma check_core_sound g g' t : gradients_related (found val) g g' -> check_core g t = true ->
  core_gradients_are val g' t.
Proof.
  intros Hg H. apply andb_prop in H as [H H4]. apply andb_prop in H as [H H3]. apply andb_prop in H as [H1 H2].
  refine (conj _ (conj _ (conj _ _))).
  - revert H1. apply check_tensor_sound. intros. apply (r_dq _ _ _ Hg).
  - revert H2. apply check_tensor_sound. intros. apply (r_dk _ _ _ Hg).
  - revert H3. apply check_tensor_sound. intros. apply (r_dv _ _ _ Hg).
  - intros Hbias. rewrite Hbias in H4. revert H4. apply check_tensor_sound. intros. apply (r_dbias _ _ _ Hg).
Qed.

Lemma check_gradients_sound g g' t : gradients_related (found val) g g' -> check_gradients g t = true ->
  gradients_are val g' t.
Proof.
  intros Hg H. apply andb_prop in H as [H H5]. split; [now apply (check_core_sound g)|].
  intros Hsink. rewrite Hsink in H5. simpl in H5. apply andb_prop in H5 as [Hl H5].
  split; [now apply Nat.eqb_eq|]. intros h Hh.
  apply all_below_spec with (i := h) in H5; auto. apply (r_dsink _ _ _ Hg h). now apply is_node_eq.
Qed.

Lemma check_saved_sound s s' : saved_related (found val) s s' -> check_saved s = true -> saved_is val s'.
Proof.
  intros Hs H. apply andb_prop in H as [H1 H2]. split.
  - revert H1. apply check_tensor_sound. intros. apply (r_o _ _ _ Hs).
  - revert H2. apply check_tensor_sound. intros. apply (r_lse _ _ _ Hs).
Qed.

Lemma recorded_saved_related s : saved_is val s -> saved_related (found val) recorded_saved s.
Proof.
  intros [[_ Ho] [_ Hl]]. split.
  - intros [b h i] e id. unfold recorded_saved; cbn -[Nat.ltb].
    destruct (Nat.ltb_spec b (c_batch c)), (Nat.ltb_spec h heads), (Nat.ltb_spec i (c_queries c)),
      (Nat.ltb_spec e (c_value_features c)); simpl; try discriminate.
    intros Hid. injection Hid as <-. now apply Ho.
  - intros [b h i] id. unfold recorded_saved; cbn -[Nat.ltb].
    destruct (Nat.ltb_spec b (c_batch c)), (Nat.ltb_spec h heads), (Nat.ltb_spec i (c_queries c));
      simpl; try discriminate.
    intros Hid. injection Hid as <-. now apply (Hl b h i O); auto.
Qed.
End Sound.

Theorem check_sound : check = true -> forall T (K : ops T) (x : inputs T), recorded K x.
Proof.
  unfold check.
  set (numbered := number_nodes (rev_append (c_table c) [])).
  set (find := find_node (n_nodes numbered) (index_nodes (c_table c) 1 (PositiveMap.empty _))).
  set (K0 := lookup_ops find). set (x0 := lookup_inputs find). set (p0 := problem_of K0 x0).
  cbv zeta. intros H T K x.
  apply andb_prop in H as [H Hsamples]. apply andb_prop in H as [H Hfree]. apply andb_prop in H as [H Hgiven].
  apply andb_prop in H as [H Hbackward]. apply andb_prop in H as [Hordered Hsaved].
  set (val := value K x (c_table c)). set (p := problem_of K x).
  assert (Hfind : forall n id, find n = Some id -> val id = value_of_node K x val n)
    by (intros n id Hn; apply (value_in_node K x); [exact Hordered|exact (find_node_sound _ _ _ _ Hn)]).
  assert (HK : ops_related (found val) K0 K) by (now apply (lookup_related K x)).
  assert (Hx : forall t b h i d, found val (x0 t b h i d) (x t b h i d))
    by (intros t b h i d id Hid; now rewrite (Hfind _ _ Hid)).
  assert (HP : problem_related (found val) p0 p).
  { split; try reflexivity; try (intros; apply Hx); simpl.
    - destruct (c_scale c) as [[m e]|]; [apply (r_num _ _ _ HK)|exact (default_scale_related _ K0 K HK _)].
    - destruct (c_softcap c) as [[m e]|]; simpl; auto. apply (r_num _ _ _ HK).
    - destruct (c_dlse c); simpl; auto.
    - destruct (c_bias c); simpl; auto.
    - destruct (c_sink c); simpl; auto. }
  assert (Hrun := forward_related _ _ _ HK _ _ HP choices_of).
  assert (Hs := check_saved_sound val _ _ Hrun Hsaved).
  assert (Hrec := recorded_saved_related val _ Hs).
  unfold recorded; cbv zeta; fold val p. refine (conj Hs (conj _ (conj _ (conj _ _)))).
  - refine (check_gradients_sound val _ _ _ _ Hbackward). exact (backward_related _ K0 K HK _ _ HP _ _ _ Hrec).
  - refine (check_gradients_sound val _ _ _ _ Hgiven). apply (backward_related _ K0 K HK _ _ HP).
    split; intros; apply Hx.
  - refine (check_core_sound val _ _ _ _ Hfree). apply (backward_from_weights_related _ K0 K HK _ _ HP).
    + split; simpl; intros; auto; apply Hx.
    + intros. apply Hx.
  - rewrite Forall_forall. rewrite forallb_forall in Hsamples. intros s Hin.
    refine (check_gradients_sound val _ _ _ _ (Hsamples s Hin)). apply (sus_backward_related _ K0 K HK _ _ HP); auto.
    intros r. unfold lambda_of. destruct (at3 (t_lambda s) (r_b r) (r_h r) (r_i r) (0, 0)%Z).
    apply (r_num _ _ _ HK).
Qed.
End Case.
