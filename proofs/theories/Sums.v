(** Rounding errors of sums and inner products, in any order and over any tree of additions.

    The formats are Flocq's [FLT]: radix 2, precision [prec], least exponent [emin], gradual underflow, no
    overflow. IEEE 754's binary formats are of this kind as long as nothing overflows.

    - [sum_within_gamma]: a sum of the numbers [xs], added in any order over any tree, is within
      [gamma u (depth t) * sum |x|] of the exact sum, and the depth is at most [n - 1].
    - [dot_within_gamma]: an inner product in any order, over any tree of additions and fused
      multiply-additions, is within [gamma u n * sum |x y|] plus [n] times the underflow term.
    - [running_sum_within_gamma], [running_dot_within_gamma]: loops that start at zero, as instances;
      [program_sum_within_gamma], [program_dot_within_gamma]: the program's [sum] and [dot] of [Exec]. *)

From Coq Require Import Reals ZArith List Permutation Lia Lra Psatz.
From Flocq Require Import Core Relative Plus_error.
From SusOracle Require Exec.
Import ListNotations.

Open Scope R_scope.

(** * Exact sums over lists *)

Definition sum (xs : list R) : R := fold_right Rplus 0 xs.
Definition sum_abs (xs : list R) : R := sum (map Rabs xs).

Lemma sum_app xs ys : sum (xs ++ ys) = sum xs + sum ys.
Proof. induction xs as [|x xs IH]; simpl; [ring|]. rewrite IH. ring. Qed.

Lemma sum_permutation xs ys : Permutation xs ys -> sum xs = sum ys.
Proof. induction 1; simpl; lra. Qed.

Lemma sum_abs_app xs ys : sum_abs (xs ++ ys) = sum_abs xs + sum_abs ys.
Proof. unfold sum_abs. now rewrite map_app, sum_app. Qed.

Lemma sum_abs_permutation xs ys : Permutation xs ys -> sum_abs xs = sum_abs ys.
Proof. intros H. apply sum_permutation. now apply Permutation_map. Qed.

Lemma sum_abs_pos xs : 0 <= sum_abs xs.
Proof.
  induction xs as [|x xs IH]; unfold sum_abs in *; simpl; [lra|].
  assert (H := Rabs_pos x). lra.
Qed.

Lemma Rabs_sum_le xs : Rabs (sum xs) <= sum_abs xs.
Proof.
  induction xs as [|x xs IH]; unfold sum_abs in *; simpl; [rewrite Rabs_R0; lra|].
  assert (H := Rabs_triang x (sum xs)). lra.
Qed.

(** * What a rounding has to satisfy

    [u] bounds the relative error, [eta] the absolute error of a product that underflows. A sum of two numbers
    of the format has no underflow error. *)

Record rounding (format : R -> Prop) (rnd : R -> R) (u eta : R) : Prop := {
  u_pos : 0 <= u;
  eta_pos : 0 <= eta;
  rnd_format : forall x, format (rnd x);
  rnd_of_format : forall x, format x -> rnd x = x;
  rnd_plus : forall x y, format x -> format y ->
    exists d, Rabs d <= u /\ rnd (x + y) = (x + y) * (1 + d);
  rnd_any : forall x, exists d e, Rabs d <= u /\ Rabs e <= eta /\ rnd x = x * (1 + d) + e
}.

Section FLT.

Variables emin prec : Z.
Hypothesis prec_pos : (0 < prec)%Z.

Instance prec_gt_0_here : Prec_gt_0 prec := prec_pos.

Definition flt : R -> Prop := generic_format radix2 (FLT_exp emin prec).

(** The unit roundoff of rounding to nearest, [2^-prec], and of any rounding, [2^(1-prec)]. *)
Definition unit_nearest : R := bpow radix2 (- prec).
Definition unit_any : R := bpow radix2 (1 - prec).

(** Half of the least positive number, and the whole of it. *)
Definition half_least : R := bpow radix2 (emin - 1).
Definition least : R := bpow radix2 emin.

Lemma half_bpow e : / 2 * bpow radix2 e = bpow radix2 (e - 1).
Proof. unfold Zminus. rewrite bpow_plus. simpl. unfold Z.pow_pos; simpl. lra. Qed.

(** Rounding to nearest, whatever the rule for ties. *)
Theorem nearest_is_a_rounding (choice : Z -> bool) :
  rounding flt (round radix2 (FLT_exp emin prec) (Znearest choice)) unit_nearest half_least.
Proof.
  assert (Hu : / 2 * bpow radix2 (- prec + 1) = unit_nearest).
  { rewrite half_bpow. unfold unit_nearest. f_equal. ring. }
  split.
  - apply bpow_ge_0.
  - apply bpow_ge_0.
  - intros x. apply generic_format_round; [apply FLT_exp_valid; exact prec_pos|apply valid_rnd_N].
  - intros x Hx. apply round_generic; [apply valid_rnd_N|exact Hx].
  - intros x y Hx Hy.
    destruct (FLT_plus_error_N_ex radix2 emin prec choice x y Hx Hy) as [d [Hd E]].
    exists d. split; [|exact E].
    refine (Rle_trans _ _ _ Hd _).
    refine (Rle_trans _ _ _ (u_rod1pu_ro_le_u_ro radix2 prec) _).
    unfold u_ro. rewrite <- Hu. lra.
  - intros x.
    destruct (error_N_FLT radix2 emin prec prec_pos choice x) as [d [e [Hd [He [_ E]]]]].
    exists d, e. rewrite Hu in Hd. unfold half_least. rewrite <- half_bpow. auto.
Qed.

(** Any rounding to a neighbour: up, down, toward zero, or another in each place. *)
Theorem any_is_a_rounding (rnd : R -> Z) {valid : Valid_rnd rnd} :
  rounding flt (round radix2 (FLT_exp emin prec) rnd) unit_any least.
Proof.
  assert (Hu : bpow radix2 (- prec + 1) = unit_any) by (unfold unit_any; f_equal; ring).
  split.
  - apply bpow_ge_0.
  - apply bpow_ge_0.
  - intros x. apply generic_format_round; [apply FLT_exp_valid; exact prec_pos|exact valid].
  - intros x Hx. apply round_generic; [exact valid|exact Hx].
  - intros x y Hx Hy.
    destruct (Rle_or_lt (bpow radix2 (emin + prec - 1)) (Rabs (x + y))) as [M|M].
    + destruct (relative_error_FLT_ex radix2 emin prec prec_pos rnd (x + y) M) as [d [Hd E]].
      exists d. split; [rewrite <- Hu; lra|exact E].
    + exists 0. rewrite Rabs_R0. split; [apply bpow_ge_0|].
      rewrite round_generic; [ring|exact valid|].
      apply FLT_format_plus_small; [exact prec_pos|exact Hx|exact Hy|].
      apply Rlt_le, (Rlt_le_trans _ _ _ M), bpow_le. lia.
  - intros x.
    destruct (Rle_or_lt (bpow radix2 (emin + prec - 1)) (Rabs x)) as [M|M].
    + destruct (relative_error_FLT_ex radix2 emin prec prec_pos rnd x M) as [d [Hd E]].
      exists d, 0. rewrite Rabs_R0, Rplus_0_r. split; [rewrite <- Hu; lra|split; [apply bpow_ge_0|exact E]].
    + exists 0, (round radix2 (FLT_exp emin prec) rnd x - x). rewrite Rabs_R0.
      split; [apply bpow_ge_0|split; [|ring]].
      refine (Rle_trans _ _ _ (error_le_ulp radix2 (FLT_exp emin prec) rnd x) _).
      rewrite ulp_FLT_small; [apply Rle_refl|exact prec_pos|].
      refine (Rlt_le_trans _ _ _ M _). apply bpow_le. lia.
Qed.

End FLT.

(** * Trees of additions

    [Number x] is a number of the format, used as it is. [Product x y] is rounded once. [Fused x y t] is a fused
    multiply-addition: [x * y] is added to the value of [t] exactly and the result is rounded once. *)

Inductive tree : Type :=
  | Number (x : R)
  | Product (x y : R)
  | Add (l r : tree)
  | Fused (x y : R) (t : tree).

(** The terms, left to right. *)
Fixpoint terms (t : tree) : list R :=
  match t with
  | Number x => [x]
  | Product x y => [x * y]
  | Add l r => terms l ++ terms r
  | Fused x y t => (x * y) :: terms t
  end.

(** The pairs that are multiplied, left to right. *)
Fixpoint pairs (t : tree) : list (R * R) :=
  match t with
  | Number _ => []
  | Product x y => [(x, y)]
  | Add l r => pairs l ++ pairs r
  | Fused x y t => (x, y) :: pairs t
  end.

(** The plain numbers, left to right. *)
Fixpoint numbers (t : tree) : list R :=
  match t with
  | Number x => [x]
  | Product _ _ => []
  | Add l r => numbers l ++ numbers r
  | Fused _ _ t => numbers t
  end.

(** The largest number of roundings between a term and the root. *)
Fixpoint roundings (t : tree) : nat :=
  match t with
  | Number _ => 0
  | Product _ _ => 1
  | Add l r => S (Nat.max (roundings l) (roundings r))
  | Fused _ _ t => S (roundings t)
  end.

(** The computed value. *)
Fixpoint computed (rnd : R -> R) (t : tree) : R :=
  match t with
  | Number x => x
  | Product x y => rnd (x * y)
  | Add l r => rnd (computed rnd l + computed rnd r)
  | Fused x y t => rnd (x * y + computed rnd t)
  end.

Definition product_of (p : R * R) : R := fst p * snd p.

Lemma terms_split t :
  Permutation (terms t) (numbers t ++ map product_of (pairs t)).
Proof.
  induction t as [x|x y|l IHl r IHr|x y t IH]; simpl; try reflexivity.
  - rewrite IHl, IHr, map_app, <- !app_assoc. apply Permutation_app_head.
    rewrite !app_assoc. apply Permutation_app_tail. apply Permutation_app_comm.
  - rewrite IH. apply Permutation_middle.
Qed.

(** ** Depth *)

Lemma terms_nonempty t : (1 <= length (terms t))%nat.
Proof. induction t; simpl; rewrite ?app_length; lia. Qed.

Lemma pairs_le_terms t : (length (pairs t) <= length (terms t))%nat.
Proof. induction t; simpl; rewrite ?app_length; lia. Qed.

(** A sum of [n] numbers passes at most [n - 1] roundings. *)
Lemma roundings_of_sum t : pairs t = [] -> (roundings t <= length (terms t) - 1)%nat.
Proof.
  induction t as [x|x y|l IHl r IHr|x y t IH]; simpl; intros H; try lia; try discriminate.
  apply app_eq_nil in H. destruct H as [Hl Hr]. specialize (IHl Hl). specialize (IHr Hr).
  rewrite app_length. assert (A := terms_nonempty l). assert (B := terms_nonempty r). lia.
Qed.

(** An inner product of [n] pairs passes at most [n] roundings. *)
Lemma roundings_of_terms t : (roundings t <= length (terms t))%nat.
Proof.
  induction t as [x|x y|l IHl r IHr|x y t IH]; simpl; rewrite ?app_length; try lia.
  assert (A := terms_nonempty l). assert (B := terms_nonempty r). lia.
Qed.

(** ** Powers of [1 + u], and [gamma] *)

Definition gamma (u : R) (n : nat) : R := INR n * u / (1 - INR n * u).

Lemma power_ge_1 u n : 0 <= u -> 1 <= (1 + u) ^ n.
Proof. intros. apply pow_R1_Rle. lra. Qed.

Lemma power_mono u m n : 0 <= u -> (m <= n)%nat -> (1 + u) ^ m <= (1 + u) ^ n.
Proof. intros. apply Rle_pow; [lra|assumption]. Qed.

(** [(1 + u)^n (1 - n u) <= 1]. *)
Lemma power_times_le u n : 0 <= u -> (1 + u) ^ n * (1 - INR n * u) <= 1.
Proof.
  intros Hu. induction n as [|n IH]; [simpl; lra|].
  rewrite S_INR. simpl.
  assert (P := power_ge_1 u n Hu). assert (N := pos_INR n).
  assert (E : (1 + u) * (1 + u) ^ n * (1 - (INR n + 1) * u)
    = (1 + u) ^ n * (1 - INR n * u) - (1 + u) ^ n * ((INR n + 1) * (u * u))) by ring.
  rewrite E.
  assert (0 <= (1 + u) ^ n * ((INR n + 1) * (u * u)))
    by (apply Rmult_le_pos; [lra|apply Rmult_le_pos; [lra|apply Rmult_le_pos; lra]]).
  lra.
Qed.

Lemma power_le_gamma u n : 0 <= u -> INR n * u < 1 -> (1 + u) ^ n - 1 <= gamma u n.
Proof.
  intros Hu Hn. unfold gamma.
  apply (Rmult_le_reg_r (1 - INR n * u)); [lra|].
  unfold Rdiv. rewrite Rmult_assoc, Rinv_l; [|lra].
  assert (H := power_times_le u n Hu). lra.
Qed.

Lemma gamma_mono u m n :
  0 <= u -> (m <= n)%nat -> INR n * u < 1 -> gamma u m <= gamma u n.
Proof.
  intros Hu Hmn Hn.
  assert (Hm : INR m * u <= INR n * u) by (apply Rmult_le_compat_r; [lra|now apply le_INR]).
  assert (Hp : 0 <= INR m * u) by (apply Rmult_le_pos; [apply pos_INR|lra]).
  unfold gamma, Rdiv. apply Rmult_le_compat; [lra| |lra|].
  - apply Rlt_le, Rinv_0_lt_compat. lra.
  - apply Rinv_le_contravar; lra.
Qed.

(** * The error of a tree *)

Section Error.

Variables (format : R -> Prop) (rnd : R -> R) (u eta : R).
Hypothesis ok : rounding format rnd u eta.

Let Hu : 0 <= u := u_pos _ _ _ _ ok.
Let Heta : 0 <= eta := eta_pos _ _ _ _ ok.

Lemma computed_format t : Forall format (numbers t) -> format (computed rnd t).
Proof.
  destruct t as [x|x y|l r|x y t]; simpl; intros H; try apply (rnd_format _ _ _ _ ok).
  now inversion H.
Qed.

(** One addition: errors [el], [er] of its operands grow to [(1 + u) (el + er) + u (|a| + |b|)]. *)
Lemma add_error a b x y d :
  Rabs d <= u ->
  Rabs ((x + y) * (1 + d) - (a + b))
    <= (1 + u) * (Rabs (x - a) + Rabs (y - b)) + u * (Rabs a + Rabs b).
Proof.
  intros Hd.
  replace ((x + y) * (1 + d) - (a + b)) with ((1 + d) * ((x - a) + (y - b)) + d * (a + b)) by ring.
  refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite !Rabs_mult.
  apply Rplus_le_compat; apply Rmult_le_compat; try apply Rabs_pos; try apply Rabs_triang; [|exact Hd].
  refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_R1. lra.
Qed.

(** The error with [(1 + u)^r], [r] the number of roundings on the longest way to the root. *)
Theorem tree_error t :
  Forall format (numbers t) ->
  Rabs (computed rnd t - sum (terms t))
    <= ((1 + u) ^ roundings t - 1) * sum_abs (terms t)
       + INR (length (pairs t)) * (eta * (1 + u) ^ Nat.pred (roundings t)).
Proof.
  induction t as [x|x y|l IHl r IHr|x y t IH]; intros F.
  - unfold sum_abs; simpl. rewrite Rplus_0_r, Rminus_diag_eq, Rabs_R0 by ring. lra.
  - unfold sum_abs. cbn [terms pairs computed roundings sum fold_right map length INR Nat.pred pow].
    rewrite !Rplus_0_r, !Rmult_1_r, !Rmult_1_l.
    destruct (rnd_any _ _ _ _ ok (x * y)) as [d [e [Hd [He E]]]]. rewrite E.
    replace (x * y * (1 + d) + e - x * y) with (d * (x * y) + e) by ring.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _). rewrite Rabs_mult.
    assert (Rabs d * Rabs (x * y) <= u * Rabs (x * y))
      by (apply Rmult_le_compat_r; [apply Rabs_pos|exact Hd]).
    lra.
  - cbn [numbers] in F. apply Forall_app in F. destruct F as [Fl Fr].
    specialize (IHl Fl). specialize (IHr Fr).
    cbn [terms computed pairs roundings Nat.pred].
    destruct (rnd_plus _ _ _ _ ok _ _ (computed_format l Fl) (computed_format r Fr)) as [d [Hd E]].
    rewrite E, sum_app, sum_abs_app, app_length, plus_INR.
    refine (Rle_trans _ _ _ (add_error (sum (terms l)) (sum (terms r)) _ _ d Hd) _).
    set (m := Nat.max (roundings l) (roundings r)).
    assert (grow : forall s, (roundings s <= m)%nat ->
      (1 + u) * (((1 + u) ^ roundings s - 1) * sum_abs (terms s)
        + INR (length (pairs s)) * (eta * (1 + u) ^ Nat.pred (roundings s)))
      + u * Rabs (sum (terms s))
      <= ((1 + u) ^ S m - 1) * sum_abs (terms s) + INR (length (pairs s)) * (eta * (1 + u) ^ m)).
    { intros s Hs.
      assert (P1 := power_mono u _ _ Hu Hs).
      assert (A := sum_abs_pos (terms s)). assert (B := Rabs_sum_le (terms s)).
      assert (P0 := power_ge_1 u (roundings s) Hu).
      assert (N := pos_INR (length (pairs s))).
      assert (P2 : INR (length (pairs s)) * (eta * ((1 + u) * (1 + u) ^ Nat.pred (roundings s)))
        <= INR (length (pairs s)) * (eta * (1 + u) ^ m)).
      { destruct s as [x|x y|s1 s2|x y s]; simpl roundings in *; simpl Nat.pred in *;
          [simpl; lra| | | ];
          (apply Rmult_le_compat_l; [exact N|]; apply Rmult_le_compat_l; [exact Heta|]; exact P1). }
      simpl.
      assert (X : (1 + u) * (((1 + u) ^ roundings s - 1) * sum_abs (terms s)) + u * Rabs (sum (terms s))
        <= ((1 + u) * (1 + u) ^ m - 1) * sum_abs (terms s)).
      { assert (u * Rabs (sum (terms s)) <= u * sum_abs (terms s)) by (apply Rmult_le_compat_l; lra).
        assert ((1 + u) * ((1 + u) ^ roundings s * sum_abs (terms s))
          <= (1 + u) * ((1 + u) ^ m * sum_abs (terms s)))
          by (apply Rmult_le_compat_l; [lra|]; apply Rmult_le_compat_r; lra).
        lra. }
      lra. }
    assert (Gl := grow l (Nat.le_max_l _ _)). assert (Gr := grow r (Nat.le_max_r _ _)).
    assert (Ml : (1 + u) * Rabs (computed rnd l - sum (terms l))
      <= (1 + u) * (((1 + u) ^ roundings l - 1) * sum_abs (terms l)
        + INR (length (pairs l)) * (eta * (1 + u) ^ Nat.pred (roundings l))))
      by (apply Rmult_le_compat_l; lra).
    assert (Mr : (1 + u) * Rabs (computed rnd r - sum (terms r))
      <= (1 + u) * (((1 + u) ^ roundings r - 1) * sum_abs (terms r)
        + INR (length (pairs r)) * (eta * (1 + u) ^ Nat.pred (roundings r))))
      by (apply Rmult_le_compat_l; lra).
    lra.
  - cbn [numbers] in F. specialize (IH F).
    cbn [terms computed pairs roundings Nat.pred length sum fold_right]. fold (sum (terms t)).
    destruct (rnd_any _ _ _ _ ok (x * y + computed rnd t)) as [d [e [Hd [He E]]]]. rewrite E.
    replace ((x * y + computed rnd t) * (1 + d) + e - (x * y + sum (terms t)))
      with (((x * y + computed rnd t) * (1 + d) - (x * y + sum (terms t))) + e) by ring.
    refine (Rle_trans _ _ _ (Rabs_triang _ _) _).
    assert (D := add_error (x * y) (sum (terms t)) (x * y) (computed rnd t) d Hd).
    rewrite (Rminus_diag_eq (x * y) (x * y) eq_refl), Rabs_R0, Rplus_0_l in D.
    rewrite S_INR.
    replace (sum_abs (x * y :: terms t)) with (Rabs (x * y) + sum_abs (terms t)) by reflexivity.
    assert (A := sum_abs_pos (terms t)). assert (B := Rabs_sum_le (terms t)).
    assert (P0 := power_ge_1 u (roundings t) Hu).
    assert (N := pos_INR (length (pairs t))).
    assert (Z := Rabs_pos (x * y)).
    assert (P2 : INR (length (pairs t)) * (eta * ((1 + u) * (1 + u) ^ Nat.pred (roundings t)))
      <= INR (length (pairs t)) * (eta * (1 + u) ^ roundings t)).
    { destruct t; simpl; lra. }
    assert (M : (1 + u) * Rabs (computed rnd t - sum (terms t))
      <= (1 + u) * (((1 + u) ^ roundings t - 1) * sum_abs (terms t)
        + INR (length (pairs t)) * (eta * (1 + u) ^ Nat.pred (roundings t))))
      by (apply Rmult_le_compat_l; lra).
    assert (Q : Rabs e <= eta * (1 + u) ^ roundings t).
    { refine (Rle_trans _ _ _ He _). rewrite <- (Rmult_1_r eta) at 1. apply Rmult_le_compat_l; lra. }
    assert (W : u * Rabs (x * y) <= ((1 + u) * (1 + u) ^ roundings t - 1) * Rabs (x * y)).
    { apply Rmult_le_compat_r; [exact Z|].
      assert (1 + u <= (1 + u) * (1 + u) ^ roundings t); [|lra].
      rewrite <- (Rmult_1_r (1 + u)) at 1. apply Rmult_le_compat_l; lra. }
    assert (u * Rabs (sum (terms t)) <= u * sum_abs (terms t)) by (apply Rmult_le_compat_l; lra).
    simpl. lra.
Qed.

(** ** Sums in any order *)

(** The tree [t] adds the numbers [xs], in some order, with some nesting. *)
Definition adds (xs : list R) (t : tree) : Prop := pairs t = [] /\ Permutation (numbers t) xs.

Lemma adds_terms xs t : adds xs t -> Permutation (terms t) xs.
Proof.
  intros [Hp H]. rewrite (terms_split t), Hp. simpl. now rewrite app_nil_r.
Qed.

Theorem sum_within_gamma_depth xs t :
  adds xs t -> Forall format xs -> INR (roundings t) * u < 1 ->
  Rabs (computed rnd t - sum xs) <= gamma u (roundings t) * sum_abs xs.
Proof.
  intros H F Hn. assert (Q := adds_terms _ _ H). destruct H as [Hp H].
  assert (F' : Forall format (numbers t)).
  { apply Forall_forall. intros x Hx. rewrite Forall_forall in F. apply F.
    now apply (Permutation_in x H). }
  assert (E := tree_error t F').
  rewrite Hp, (sum_permutation _ _ Q), (sum_abs_permutation _ _ Q) in E. simpl in E.
  assert (G := power_le_gamma u (roundings t) Hu Hn). assert (A := sum_abs_pos xs).
  assert (((1 + u) ^ roundings t - 1) * sum_abs xs <= gamma u (roundings t) * sum_abs xs)
    by (apply Rmult_le_compat_r; lra).
  lra.
Qed.

Theorem sum_within_gamma xs t :
  adds xs t -> Forall format xs -> INR (length xs - 1) * u < 1 ->
  Rabs (computed rnd t - sum xs) <= gamma u (length xs - 1) * sum_abs xs.
Proof.
  intros H F Hn.
  assert (D : (roundings t <= length xs - 1)%nat).
  { rewrite <- (Permutation_length (adds_terms _ _ H)). apply roundings_of_sum. apply H. }
  assert (G := gamma_mono u _ _ Hu D Hn).
  refine (Rle_trans _ _ _ (sum_within_gamma_depth xs t H F _) _).
  - refine (Rle_lt_trans _ _ _ _ Hn). apply Rmult_le_compat_r; [exact Hu|now apply le_INR].
  - apply Rmult_le_compat_r; [apply sum_abs_pos|exact G].
Qed.

(** ** Inner products in any order *)

(** The tree [t] adds the products of the pairs [xys], in some order, with some nesting, each product rounded by
    itself or fused with an addition. *)
Definition multiplies (xys : list (R * R)) (t : tree) : Prop :=
  numbers t = [] /\ Permutation (pairs t) xys.

Definition dot_exact (xys : list (R * R)) : R := sum (map product_of xys).
Definition dot_abs (xys : list (R * R)) : R := sum_abs (map product_of xys).

Lemma multiplies_terms xys t :
  multiplies xys t -> Permutation (terms t) (map product_of xys).
Proof.
  intros [Hn H]. rewrite (terms_split t), Hn. simpl. now apply Permutation_map.
Qed.

Theorem dot_within_gamma_depth xys t :
  multiplies xys t -> INR (roundings t) * u < 1 ->
  Rabs (computed rnd t - dot_exact xys)
    <= gamma u (roundings t) * dot_abs xys
       + INR (length xys) * (eta * (1 + gamma u (Nat.pred (roundings t)))).
Proof.
  intros H Hn. assert (Q := multiplies_terms _ _ H). destruct H as [Hp H].
  assert (F : Forall format (numbers t)) by (rewrite Hp; constructor).
  assert (E := tree_error t F). unfold dot_exact, dot_abs.
  rewrite (sum_permutation _ _ Q), (sum_abs_permutation _ _ Q), (Permutation_length H) in E.
  assert (G := power_le_gamma u (roundings t) Hu Hn).
  assert (G' : (1 + u) ^ Nat.pred (roundings t) - 1 <= gamma u (Nat.pred (roundings t))).
  { apply power_le_gamma; [exact Hu|]. refine (Rle_lt_trans _ _ _ _ Hn).
    apply Rmult_le_compat_r; [exact Hu|apply le_INR; lia]. }
  assert (A := sum_abs_pos (map product_of xys)). assert (N := pos_INR (length xys)).
  assert (((1 + u) ^ roundings t - 1) * sum_abs (map product_of xys)
    <= gamma u (roundings t) * sum_abs (map product_of xys)) by (apply Rmult_le_compat_r; lra).
  assert (INR (length xys) * (eta * (1 + u) ^ Nat.pred (roundings t))
    <= INR (length xys) * (eta * (1 + gamma u (Nat.pred (roundings t))))).
  { apply Rmult_le_compat_l; [exact N|]. apply Rmult_le_compat_l; [exact Heta|lra]. }
  lra.
Qed.

Theorem dot_within_gamma xys t :
  multiplies xys t -> INR (length xys) * u < 1 ->
  Rabs (computed rnd t - dot_exact xys)
    <= gamma u (length xys) * dot_abs xys
       + INR (length xys) * (eta * (1 + gamma u (length xys - 1))).
Proof.
  intros H Hn.
  assert (D : (roundings t <= length xys)%nat).
  { assert (L := Permutation_length (multiplies_terms _ _ H)). rewrite map_length in L.
    rewrite <- L. apply roundings_of_terms. }
  assert (M : INR (roundings t) * u < 1).
  { refine (Rle_lt_trans _ _ _ _ Hn). apply Rmult_le_compat_r; [exact Hu|now apply le_INR]. }
  refine (Rle_trans _ _ _ (dot_within_gamma_depth xys t H M) _).
  apply Rplus_le_compat.
  - apply Rmult_le_compat_r; [apply sum_abs_pos|]. now apply gamma_mono.
  - apply Rmult_le_compat_l; [apply pos_INR|]. apply Rmult_le_compat_l; [exact Heta|].
    apply Rplus_le_compat_l, gamma_mono; [exact Hu|lia|].
    refine (Rle_lt_trans _ _ _ _ Hn). apply Rmult_le_compat_r; [exact Hu|apply le_INR; lia].
Qed.

(** ** The loops of the reference, which start at zero *)

(** [xs.fold(0, |sum, x| sum + x)], rounded after each addition. *)
Definition running_sum (xs : list R) : R := fold_left (fun s x => rnd (s + x)) xs 0.

(** [dot(x, y)]: [fold(0, |sum, (x, y)| sum + x * y)], rounded after each operation. *)
Definition running_dot (xys : list (R * R)) : R :=
  fold_left (fun s p => rnd (s + rnd (product_of p))) xys 0.

Lemma computed_left (A : Type) (leaf : A -> tree) (f : A -> R) (xs : list A) t :
  (forall a, computed rnd (leaf a) = f a) ->
  computed rnd (fold_left (fun t a => Add t (leaf a)) xs t)
    = fold_left (fun s a => rnd (s + f a)) xs (computed rnd t).
Proof.
  intros H. revert t. induction xs as [|x xs IH]; intros t; simpl; [reflexivity|].
  rewrite IH. simpl. now rewrite H.
Qed.

Lemma numbers_left xs t :
  pairs t = [] ->
  pairs (fold_left (fun t x => Add t (Number x)) xs t) = [] /\
  numbers (fold_left (fun t x => Add t (Number x)) xs t) = numbers t ++ xs.
Proof.
  revert t. induction xs as [|x xs IH]; intros t H; simpl; [now rewrite app_nil_r|].
  destruct (IH (Add t (Number x))) as [A B].
  - simpl. now rewrite H.
  - split; [exact A|]. rewrite B. simpl. now rewrite <- app_assoc.
Qed.

Lemma pairs_left xys t :
  numbers t = [] ->
  numbers (fold_left (fun t p => Add t (Product (fst p) (snd p))) xys t) = [] /\
  pairs (fold_left (fun t p => Add t (Product (fst p) (snd p))) xys t) = pairs t ++ xys.
Proof.
  revert t. induction xys as [|[x y] xys IH]; intros t H; simpl; [now rewrite app_nil_r|].
  destruct (IH (Add t (Product x y))) as [A B].
  - simpl. now rewrite H.
  - split; [exact A|]. rewrite B. simpl. now rewrite <- app_assoc.
Qed.

(** The first addition, to zero, is exact: [n] terms cost [n - 1] roundings. *)
Theorem running_sum_within_gamma xs :
  Forall format xs -> INR (length xs - 1) * u < 1 ->
  Rabs (running_sum xs - sum xs) <= gamma u (length xs - 1) * sum_abs xs.
Proof.
  intros F Hn. destruct xs as [|x xs].
  - unfold running_sum, gamma, sum_abs. simpl. rewrite Rminus_0_r, Rabs_R0. lra.
  - assert (Fx : format x) by (now inversion F).
    assert (E : running_sum (x :: xs)
      = computed rnd (fold_left (fun t x => Add t (Number x)) xs (Number x))).
    { rewrite (computed_left R Number (fun x => x)); [|reflexivity].
      unfold running_sum. simpl. rewrite Rplus_0_l, (rnd_of_format _ _ _ _ ok x Fx). reflexivity. }
    rewrite E. apply sum_within_gamma; [|exact F|exact Hn].
    destruct (numbers_left xs (Number x) eq_refl) as [A B]. split; [exact A|].
    rewrite B. apply Permutation_refl.
Qed.

Theorem running_dot_within_gamma xys :
  INR (length xys) * u < 1 ->
  Rabs (running_dot xys - dot_exact xys)
    <= gamma u (length xys) * dot_abs xys
       + INR (length xys) * (eta * (1 + gamma u (length xys - 1))).
Proof.
  intros Hn. destruct xys as [|[x y] xys].
  - unfold running_dot, dot_exact, dot_abs, gamma, sum_abs. simpl. rewrite Rminus_0_r, Rabs_R0. lra.
  - assert (E : running_dot ((x, y) :: xys)
      = computed rnd (fold_left (fun t p => Add t (Product (fst p) (snd p))) xys (Product x y))).
    { rewrite (computed_left (R * R)%type (fun p => Product (fst p) (snd p)) (fun p => rnd (product_of p)));
        [|reflexivity].
      unfold running_dot. simpl. rewrite Rplus_0_l.
      rewrite (rnd_of_format _ _ _ _ ok _ (rnd_format _ _ _ _ ok _)). reflexivity. }
    rewrite E. apply dot_within_gamma; [|exact Hn].
    destruct (pairs_left xys (Product x y) eq_refl) as [A B]. split; [exact A|].
    rewrite B. apply Permutation_refl.
Qed.

End Error.

(** * The IEEE formats, rounded to nearest

    [emin] and [prec] are -1074 and 53 (binary64), -149 and 24 (binary32), -24 and 11 (binary16), -133 and 8
    (bfloat16). *)

Section Formats.

Variables (emin prec : Z) (choice : Z -> bool).
Hypothesis prec_pos : (0 < prec)%Z.

Let rnd := round radix2 (FLT_exp emin prec) (Znearest choice).

Theorem flt_sum_any_order xs t :
  adds xs t -> Forall (flt emin prec) xs -> INR (length xs - 1) * unit_nearest prec < 1 ->
  Rabs (computed rnd t - sum xs) <= gamma (unit_nearest prec) (length xs - 1) * sum_abs xs.
Proof. apply (sum_within_gamma _ _ _ _ (nearest_is_a_rounding emin prec prec_pos choice)). Qed.

Theorem flt_sum_any_tree xs t :
  adds xs t -> Forall (flt emin prec) xs -> INR (roundings t) * unit_nearest prec < 1 ->
  Rabs (computed rnd t - sum xs) <= gamma (unit_nearest prec) (roundings t) * sum_abs xs.
Proof. apply (sum_within_gamma_depth _ _ _ _ (nearest_is_a_rounding emin prec prec_pos choice)). Qed.

Theorem flt_dot_any_order xys t :
  multiplies xys t -> INR (length xys) * unit_nearest prec < 1 ->
  Rabs (computed rnd t - dot_exact xys)
    <= gamma (unit_nearest prec) (length xys) * dot_abs xys
       + INR (length xys) * (half_least emin * (1 + gamma (unit_nearest prec) (length xys - 1))).
Proof. apply (dot_within_gamma _ _ _ _ (nearest_is_a_rounding emin prec prec_pos choice)). Qed.

Theorem flt_dot_any_tree xys t :
  multiplies xys t -> INR (roundings t) * unit_nearest prec < 1 ->
  Rabs (computed rnd t - dot_exact xys)
    <= gamma (unit_nearest prec) (roundings t) * dot_abs xys
       + INR (length xys) * (half_least emin * (1 + gamma (unit_nearest prec) (Nat.pred (roundings t)))).
Proof. apply (dot_within_gamma_depth _ _ _ _ (nearest_is_a_rounding emin prec prec_pos choice)). Qed.

Theorem flt_running_sum xs :
  Forall (flt emin prec) xs -> INR (length xs - 1) * unit_nearest prec < 1 ->
  Rabs (running_sum rnd xs - sum xs) <= gamma (unit_nearest prec) (length xs - 1) * sum_abs xs.
Proof. apply (running_sum_within_gamma _ _ _ _ (nearest_is_a_rounding emin prec prec_pos choice)). Qed.

Theorem flt_running_dot xys :
  INR (length xys) * unit_nearest prec < 1 ->
  Rabs (running_dot rnd xys - dot_exact xys)
    <= gamma (unit_nearest prec) (length xys) * dot_abs xys
       + INR (length xys) * (half_least emin * (1 + gamma (unit_nearest prec) (length xys - 1))).
Proof. apply (running_dot_within_gamma _ _ _ _ (nearest_is_a_rounding emin prec prec_pos choice)). Qed.

End Formats.

(** * The program's sums, with rounded scalars *)

Section Program.

Variables (format : R -> Prop) (rnd : R -> R) (u eta : R).
Hypothesis ok : rounding format rnd u eta.

(** Scalars whose zero is zero, and whose additions and products are rounded once. *)
Variable K : Exec.ops R.
Hypothesis K_zero : Exec.o_zero K = 0.
Hypothesis K_add : forall x y, Exec.o_add K x y = rnd (x + y).
Hypothesis K_mul : forall x y, Exec.o_mul K x y = rnd (x * y).

Lemma program_sum_is_running {I} (l : list I) (f : I -> R) :
  Exec.sum K l f = running_sum rnd (map f l).
Proof.
  unfold Exec.sum, running_sum. rewrite K_zero. generalize 0 as a.
  induction l as [|n l IH]; intros a; simpl; [reflexivity|]. now rewrite K_add, IH.
Qed.

(** [sum]: the terms as computed, added in the program's order. *)
Theorem program_sum_within_gamma {I} (l : list I) (f : I -> R) :
  (forall n, In n l -> format (f n)) -> INR (length l - 1) * u < 1 ->
  Rabs (Exec.sum K l f - sum (map f l)) <= gamma u (length l - 1) * sum_abs (map f l).
Proof.
  intros F Hn. rewrite program_sum_is_running, <- (map_length f l).
  apply (running_sum_within_gamma _ _ _ _ ok); [|now rewrite map_length].
  apply Forall_forall. intros x Hx. rewrite in_map_iff in Hx. destruct Hx as [n [<- Hn']]. now apply F.
Qed.

(** [dot]. *)
Theorem program_dot_within_gamma n (a b : nat -> R) :
  INR n * u < 1 ->
  Rabs (Exec.dot K n a b - sum (map (fun d => a d * b d) (seq 0 n)))
    <= gamma u n * sum_abs (map (fun d => a d * b d) (seq 0 n))
       + INR n * (eta * (1 + gamma u (n - 1))).
Proof.
  intros Hn. set (xys := map (fun d => (a d, b d)) (seq 0 n)).
  assert (Hlen : length xys = n) by (unfold xys; now rewrite map_length, seq_length).
  assert (E : Exec.dot K n a b = running_dot rnd xys).
  { unfold Exec.dot, Exec.sum, running_dot, xys. rewrite K_zero. generalize 0 as s. clear - K_add K_mul.
    induction (seq 0 n) as [|d l IH]; intros s; simpl; [reflexivity|].
    rewrite IH, K_add, K_mul. reflexivity. }
  assert (H := running_dot_within_gamma _ _ _ _ ok xys). rewrite Hlen in H. specialize (H Hn).
  unfold dot_exact, dot_abs, xys in H. rewrite map_map in H. rewrite E. exact H.
Qed.

End Program.
