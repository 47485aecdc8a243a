(* The laws of SPEC section 4 for uncorrelated masks, and the mean of the number of kept entries.

   With r = W^2 (1 - q) / q, the variance of one W~:
   - `cov_linear`: the covariance of two linear forms of W~ is sum r a b, of which `var_linear` is the case a = b;
   - `var_functional`: so for any linear functional of all gradients;
   - `var_dq`, `var_dk`, `var_dv`, `var_dbias`, `cov_dv_dq`: so for the elements of the pass of Exec.v;
   - `nnz_mean`: under any law the mean of the number of kept entries is sum q; `nnz_paper`: which is at most c.

   Of the law only P(kept) = q and P(both kept) = q q' is asked: independent gates have both (`independent_pair`). *)

From mathcomp Require Import all_ssreflect ssralg ssrnum.
From mathcomp Require Import ring.
From SusOracle Require Import Exec Law Programs Exact Unbiased Optimal.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.Theory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section General.

Variables (F : fieldType) (Omega : finType) (P : Omega -> F).
Variables (I : eqType) (W q : I -> F) (m : Omega -> I -> bool) (D : pred I).

Notation W_ := (sampled W q m).

Hypothesis right : forall i, D i -> right_law P W q m i.
Hypothesis uncorrelated : forall i j, D i -> D j -> i != j ->
  mean P (fun o => (m o i)%:R * (m o j)%:R) = q i * q j.

(* Var W~ *)
Definition spread (i : I) : F := W i ^+ 2 * (1 - q i) / q i.

Lemma sampled_eq o i : W_ o i = W i / q i * (m o i)%:R.
Proof. by rewrite /sampled; case: (m o i); rewrite ?mulr1 ?mulr0. Qed.

Lemma sampled_product i j : D i -> D j ->
  mean P (fun o => W_ o i * W_ o j) = W i * W j + (i == j)%:R * spread i.
Proof.
move=> i_in j_in; have [mean_i zero_i] := right i_in; have [mean_j zero_j] := right j_in.
case: (eqVneq i j) => [e | i_neq].
  rewrite -e in mean_j zero_j *; transitivity (mean P (fun o => (W i / q i) ^+ 2 * (m o i)%:R)).
    by apply: eq_mean => o; rewrite !sampled_eq; case: (m o i) => /=; ring.
  rewrite meanZ mean_i /spread mul1r; case: (eqVneq (q i) 0) => [q0 | q_neq0].
    by rewrite zero_i // q0 invr0 !mulr0 addr0.
  by field.
transitivity (mean P (fun o => W i / q i * (W j / q j) * ((m o i)%:R * (m o j)%:R))).
  by apply: eq_mean => o; rewrite !sampled_eq; ring.
rewrite meanZ uncorrelated // mul0r addr0.
case: (eqVneq (q i) 0) => [q0 | qi_neq0]; first by rewrite zero_i // !mul0r.
case: (eqVneq (q j) 0) => [q0 | qj_neq0]; first by rewrite (zero_j q0) !(mul0r, mulr0).
by field; rewrite ?qi_neq0 ?qj_neq0.
Qed.

(* Two linear forms over two lists of entries. *)
Lemma cov_lists (l l' : seq I) (a b : I -> F) : all D l -> all D l' ->
  cov P (fun o => \sum_(i <- l) W_ o i * a i) (fun o => \sum_(j <- l') W_ o j * b j) =
  \sum_(i <- l) \sum_(j <- l') (i == j)%:R * (spread i * (a i * b j)).
Proof.
move=> l_in l'_in; rewrite /cov.
have mean_form (k : seq I) c : all D k ->
    mean P (fun o => \sum_(i <- k) W_ o i * c i) = \sum_(i <- k) W i * c i.
  move=> k_in; rewrite mean_sum big_seq [RHS]big_seq; apply: eq_bigr => i /(allP k_in) i_in.
  by rewrite meanZr sampled_mean //; apply: right.
rewrite !mean_form // mulr_suml.
have -> : mean P (fun o => (\sum_(i <- l) W_ o i * a i) * \sum_(j <- l') W_ o j * b j) =
    \sum_(i <- l) \sum_(j <- l') mean P (fun o => W_ o i * W_ o j) * (a i * b j).
  transitivity (mean P (fun o => \sum_(i <- l) \sum_(j <- l') W_ o i * W_ o j * (a i * b j))).
    by apply: eq_mean => o; rewrite mulr_suml; apply: eq_bigr => i _; rewrite mulr_sumr;
       apply: eq_bigr => j _; ring.
  rewrite mean_sum; apply: eq_bigr => i _; rewrite mean_sum; apply: eq_bigr => j _.
  by rewrite meanZr.
rewrite -sumrB big_seq [RHS]big_seq; apply: eq_bigr => i /(allP l_in) i_in.
rewrite mulr_sumr -sumrB big_seq [RHS]big_seq; apply: eq_bigr => j /(allP l'_in) j_in.
by rewrite sampled_product //; ring.
Qed.

Lemma pick_one (l : seq I) i (f : I -> F) : uniq l ->
  \sum_(j <- l) (i == j)%:R * f j = (i \in l)%:R * f i.
Proof.
elim: l => [|j l IH] /=; first by rewrite big_nil mul0r.
move=> /andP[j_notin l_uniq]; rewrite big_cons IH // inE; case: (eqVneq i j) => [-> | _]; last by rewrite mul0r add0r.
by rewrite (negbTE j_notin) /= mul0r addr0.
Qed.

Theorem cov_linear (l : seq I) (a b : I -> F) : uniq l -> all D l ->
  cov P (fun o => \sum_(i <- l) W_ o i * a i) (fun o => \sum_(i <- l) W_ o i * b i) =
  \sum_(i <- l) spread i * (a i * b i).
Proof.
move=> l_uniq l_in; rewrite cov_lists // big_seq [RHS]big_seq; apply: eq_bigr => i i_in.
by rewrite (pick_one i (fun j => spread i * (a i * b j)) l_uniq) i_in mul1r.
Qed.

Corollary var_linear (l : seq I) (a : I -> F) : uniq l -> all D l ->
  var P (fun o => \sum_(i <- l) W_ o i * a i) = \sum_(i <- l) spread i * a i ^+ 2.
Proof.
by move=> l_uniq l_in; rewrite /var cov_linear.
Qed.

(* E nnz = sum q, whatever the joint law. *)
Theorem nnz_mean (l : seq I) : all D l ->
  mean P (fun o => \sum_(i <- l) (m o i)%:R) = \sum_(i <- l) q i.
Proof.
move=> l_in; rewrite mean_sum big_seq [RHS]big_seq; apply: eq_bigr => i /(allP l_in) i_in.
by have [] := right i_in.
Qed.

End General.

(* Independent gates are uncorrelated. *)
Lemma independent_pair (F : fieldType) (I : finType) (q : I -> F) i j : i != j ->
  mean (independent q) (fun m => (m i)%:R * (m j)%:R) = q i * q j.
Proof. exact: pair_marginal. Qed.

(* Under the rule of the paper, E nnz <= c (1 - w_sink) <= c: the weights of a row add up to 1 - w_sink. *)
Theorem nnz_paper (R : realFieldType) (Omega : finType) (P : Omega -> R) (keys : seq nat) (W : nat -> R)
  (m : Omega -> nat -> bool) (c w_sink : R) :
  0 < c -> (forall j, 0 <= W j) -> 0 <= w_sink -> \sum_(j <- keys) W j = 1 - w_sink ->
  (forall j, j \in keys -> mean P (fun o => (m o j)%:R) = keep_probability (exact R) c (W j)) ->
  mean P (fun o => \sum_(j <- keys) (m o j)%:R) <= c * (1 - w_sink) /\ c * (1 - w_sink) <= c.
Proof.
move=> c_gt0 W_ge0 sink_ge0 total marginal; split; last first.
  by rewrite -[X in _ <= X]mulr1 ler_pmul2l // ger_addl oppr_le0.
rewrite mean_sum big_seq (eq_bigr _ marginal) -big_seq -total.
have := @paper_count R c [seq W j | j <- keys] c_gt0; rewrite expected_count_exact !big_map; apply.
by apply/allP => w /mapP[j _ ->].
Qed.

(* The elements of the gradients of Exec.v. *)
Section Attention.

Variables (F : fieldType) (least : F) (num : BinNums.Z -> BinNums.Z -> F) (exp ln tanh sqrt : F -> F).
Notation K := (field_ops least num exp ln tanh sqrt).
Variable p : problem F.

Definition row_code (r : row) : nat * nat * nat := (r_b r, r_h r, r_i r).
Definition row_decode (c : nat * nat * nat) : row := Row c.1.1 c.1.2 c.2.
Lemma row_codeK : cancel row_code row_decode. Proof. by case. Qed.
Canonical row_eqType := EqType row (CanEqMixin row_codeK).

Variables (Omega : finType) (P : Omega -> F).
Variables (w : weights F) (delta_ : row -> F).
Variables (q : row -> nat -> F) (m : Omega -> row -> nat -> bool).

(* The entries that the mask of attention shows. *)
Definition shown (n : row * nat) : bool :=
  [&& (r_b n.1 < p_batch p)%N, (r_h n.1 < p_heads p)%N, (r_i n.1 < p_queries p)%N, (n.2 < p_keys p)%N
    & w_kept w n.1 n.2].

Lemma shown_inside r j : inside p r j -> shown (r, j) = w_kept w r j.
Proof. by move=> [[b_lt [h_lt i_lt]] j_lt]; rewrite /shown /= b_lt h_lt i_lt j_lt. Qed.

Hypothesis marginal : forall n, shown n -> mean P (fun o => (m o n.1 n.2)%:R) = q n.1 n.2.
Hypothesis positive : forall n, shown n -> q n.1 n.2 = 0 -> w_w w n.1 n.2 = 0.
Hypothesis uncorrelated : forall n n', shown n -> shown n' -> n != n' ->
  mean P (fun o => (m o n.1 n.2)%:R * (m o n'.1 n'.2)%:R) = q n.1 n.2 * q n'.1 n'.2.
Hypothesis hidden : forall o r j, inside p r j -> m o r j -> w_kept w r j.

Let W_ o := sampled (fun n : row * nat => w_w w n.1 n.2) (fun n => q n.1 n.2) (fun o n => m o n.1 n.2) o.
Let pass o := backward_from_weights K p (gated w q m o) delta_.

(* r_ij *)
Definition entry_spread (r : row) (j : nat) : F := w_w w r j ^+ 2 * (1 - q r j) / q r j.

(* An element of a gradient is a linear form of W~ over the shown ones of a list of entries. *)
Definition is_form (element : Omega -> F) (l : seq (row * nat)) (a : row * nat -> F) : Prop :=
  forall o, element o = \sum_(n <- [seq n <- l | shown n]) W_ o n * a n.

Lemma form_of (N : Type) (l : seq N) (entry : N -> row * nat) (a : row * nat -> F) (element : Omega -> F) :
  (forall n, List.In n l -> inside p (entry n).1 (entry n).2) ->
  (forall o, element o = Exec.sum K (List.filter (fun n => m o (entry n).1 (entry n).2) l)
     (fun n => w_w w (entry n).1 (entry n).2 / q (entry n).1 (entry n).2 * a (entry n))) ->
  is_form element [seq entry n | n <- l] a.
Proof.
move=> all_inside element_eq o; rewrite element_eq sum_kept big_filter big_map.
rewrite [LHS]big_mkcond [RHS]big_mkcond; elim: l all_inside {element_eq} => [|n l IH] all_inside.
  by rewrite !big_nil.
rewrite !big_cons IH => [|n' n'_in]; last by apply: all_inside; right.
congr (_ + _); have n_in := all_inside n (or_introl erefl).
rewrite /W_ /sampled; case: (entry n) n_in => r j /= n_in; rewrite shown_inside //.
case: ifP => [/(hidden n_in) -> // | _]; by case: ifP; rewrite ?mul0r.
Qed.

Lemma form_var (element : Omega -> F) (l : seq (row * nat)) a : uniq l -> is_form element l a ->
  var P element = \sum_(n <- l | shown n) entry_spread n.1 n.2 * a n ^+ 2.
Proof.
move=> l_uniq form; transitivity (var P (fun o => \sum_(n <- [seq n <- l | shown n]) W_ o n * a n)).
  by rewrite /var /cov; congr (_ - _ * _); apply: eq_mean => o; rewrite !form.
rewrite /W_ (@var_linear _ _ P _ _ _ _ shown) ?filter_uniq ?filter_all //.
- by rewrite big_filter.
- by move=> n n_shown; split; [apply: marginal | apply: positive].
Qed.

Lemma form_cov (element element' : Omega -> F) (l l' : seq (row * nat)) a b : uniq l' ->
  is_form element l a -> is_form element' l' b ->
  cov P element element' = \sum_(n <- l | shown n) (n \in l')%:R * (entry_spread n.1 n.2 * (a n * b n)).
Proof.
move=> l'_uniq form form'.
transitivity (cov P (fun o => \sum_(n <- [seq n <- l | shown n]) W_ o n * a n)
                    (fun o => \sum_(n <- [seq n <- l' | shown n]) W_ o n * b n)).
  by rewrite /cov; congr (_ - _ * _); apply: eq_mean => o; rewrite ?form ?form'.
rewrite /W_ (@cov_lists _ _ P _ _ _ _ shown) ?filter_all //; last first.
  by move=> n n_shown; split; [apply: marginal | apply: positive].
rewrite big_filter; apply: eq_bigr => n n_shown.
rewrite (pick_one n (fun j => entry_spread n.1 n.2 * (a n * b j))) ?filter_uniq //.
by rewrite mem_filter n_shown.
Qed.

(* The lists of entries of a row, of a key, and of an element of the bias. *)
Definition row_entries r : seq (row * nat) := [seq (r, j) | j <- List.seq O (p_keys p)].
Definition key_entries b kh j : seq (row * nat) := [seq (r, j) | r <- rows_reading p b kh].
Definition bias_entries at_ j : seq (row * nat) := [seq (r, j) | r <- rows_reading_bias p at_].

Lemma seq_iota x n : List.seq x n = iota x n.
Proof. by elim: n x => //= n IH x; rewrite IH. Qed.

Lemma mem_flat (A B : eqType) (g : A -> seq B) (l : seq A) y :
  y \in List.flat_map g l -> exists2 x, x \in l & y \in g x.
Proof.
elim: l => [|x l IH] //; rewrite -[List.flat_map _ _]/(g x ++ List.flat_map g l) mem_cat.
case/orP => [y_in | /IH[x' x'_in y_in]]; first by exists x; rewrite ?mem_head.
by exists x'; rewrite // inE x'_in orbT.
Qed.

(* A list of lists that are told apart by a key of their elements. *)
Lemma uniq_flat (A B : eqType) (g : A -> seq B) (key : B -> A) (l : seq A) :
  (forall x y, y \in g x -> key y = x) -> (forall x, uniq (g x)) -> uniq l -> uniq (List.flat_map g l).
Proof.
move=> key_of g_uniq; elim: l => [|x l IH] // /andP[x_notin l_uniq].
rewrite -[List.flat_map _ _]/(g x ++ List.flat_map g l) cat_uniq g_uniq IH // andbT /=.
apply/hasPn => y /mem_flat[x' x'_in y_in']; apply: contra x_notin => /= y_in.
by rewrite -(key_of x y y_in) (key_of x' y y_in').
Qed.

Lemma uniq_rows bs hs qs : uniq bs -> uniq hs -> uniq qs -> uniq (rows_of bs hs qs).
Proof.
move=> bs_uniq hs_uniq qs_uniq; rewrite /rows_of.
have in_row b h (r : row) : r \in [seq Row b h i | i <- qs] -> r_h r = h /\ r_b r = b by case/mapP=> i _ ->.
apply: (uniq_flat (key := r_b)) => // [b r /mem_flat[h _ /in_row[]] // | b].
apply: (uniq_flat (key := r_h)) => // [h r /in_row[] // | h].
by rewrite -[List.map _ _]/(map _ _) map_inj_uniq => // i i' [].
Qed.

Lemma row_entries_uniq r : uniq (row_entries r).
Proof. by rewrite map_inj_uniq => [|j j' [->] //]; rewrite seq_iota iota_uniq. Qed.

Lemma key_entries_uniq b kh j : uniq (key_entries b kh j).
Proof.
rewrite map_inj_uniq => [|r r' [->] //]; by apply: uniq_rows; rewrite ?seq_iota ?iota_uniq.
Qed.

Lemma bias_entries_uniq at_ j : uniq (bias_entries at_ j).
Proof.
rewrite map_inj_uniq => [|r r' [->] //].
by apply: uniq_rows; case: ifP => _ //; rewrite seq_iota iota_uniq.
Qed.

Let f r j := t_of K p delta_ r j * w_slope w r j.

Lemma dq_form r d : inside_row p r ->
  is_form (fun o => g_dq (pass o) r d) (row_entries r) (fun n => f n.1 n.2 * k_of p n.1 n.2 d).
Proof.
move=> r_in; apply: form_of => [j /in_seq //|o].
by rewrite /pass /= /dq !sum_kept; apply: eq_bigr => j _; rewrite /f /= !mulrA.
Qed.

Lemma dk_form b kh j d : (b < p_batch p)%N -> (kh < p_key_heads p)%N -> (j < p_keys p)%N ->
  is_form (fun o => g_dk (pass o) b kh j d) (key_entries b kh j) (fun n => f n.1 n.2 * q_of p n.1 d).
Proof.
move=> b_lt kh_lt j_lt; apply: form_of => [r r_in | o]; first by split=> //; apply: inside_reading r_in.
by rewrite /pass /= /dk !sum_kept; apply: eq_bigr => r _; rewrite /f /= !mulrA.
Qed.

Lemma dv_form b kh j e : (b < p_batch p)%N -> (kh < p_key_heads p)%N -> (j < p_keys p)%N ->
  is_form (fun o => g_dv (pass o) b kh j e) (key_entries b kh j) (fun n => g_of p n.1 e).
Proof.
by move=> b_lt kh_lt j_lt; apply: form_of => [r r_in | o //]; split=> //; apply: inside_reading r_in.
Qed.

Lemma dbias_form at_ j : inside_bias p at_ -> (j < p_keys p)%N ->
  is_form (fun o => g_dbias (pass o) at_ j) (bias_entries at_ j) (fun n => t_of K p delta_ n.1 n.2).
Proof.
by move=> at_in j_lt; apply: form_of => [r r_in | o //]; split=> //; apply: inside_reading_bias r_in.
Qed.

(* Var dq_id = sum_j r_ij f_ij^2 k_jd^2 *)
Theorem var_dq r d : inside_row p r ->
  var P (fun o => g_dq (pass o) r d) =
  \sum_(n <- row_entries r | shown n) entry_spread n.1 n.2 * (f n.1 n.2 * k_of p n.1 n.2 d) ^+ 2.
Proof. by move=> r_in; apply: form_var (row_entries_uniq r) (dq_form d r_in). Qed.

(* Var dk_jd = sum_i r_ij f_ij^2 q_id^2, over the rows of the group *)
Theorem var_dk b kh j d : (b < p_batch p)%N -> (kh < p_key_heads p)%N -> (j < p_keys p)%N ->
  var P (fun o => g_dk (pass o) b kh j d) =
  \sum_(n <- key_entries b kh j | shown n) entry_spread n.1 n.2 * (f n.1 n.2 * q_of p n.1 d) ^+ 2.
Proof. by move=> b_lt kh_lt j_lt; apply: form_var (key_entries_uniq _ _ _) (dk_form d b_lt kh_lt j_lt). Qed.

(* Var dv_je = sum_i r_ij G_ie^2, over the rows of the group *)
Theorem var_dv b kh j e : (b < p_batch p)%N -> (kh < p_key_heads p)%N -> (j < p_keys p)%N ->
  var P (fun o => g_dv (pass o) b kh j e) =
  \sum_(n <- key_entries b kh j | shown n) entry_spread n.1 n.2 * g_of p n.1 e ^+ 2.
Proof. by move=> b_lt kh_lt j_lt; apply: form_var (key_entries_uniq _ _ _) (dv_form e b_lt kh_lt j_lt). Qed.

Theorem var_dbias at_ j : inside_bias p at_ -> (j < p_keys p)%N ->
  var P (fun o => g_dbias (pass o) at_ j) =
  \sum_(n <- bias_entries at_ j | shown n) entry_spread n.1 n.2 * t_of K p delta_ n.1 n.2 ^+ 2.
Proof. by move=> at_in j_lt; apply: form_var (bias_entries_uniq _ _) (dbias_form at_in j_lt). Qed.

(* Cov(dv_je, dq_id) = r_ij G_ie f_ij k_jd where the row reads the key, and 0 elsewhere *)
Theorem cov_dv_dq b kh j e r d : (b < p_batch p)%N -> (kh < p_key_heads p)%N -> (j < p_keys p)%N ->
  inside_row p r ->
  cov P (fun o => g_dv (pass o) b kh j e) (fun o => g_dq (pass o) r d) =
  if ((r, j) \in key_entries b kh j) && w_kept w r j
  then entry_spread r j * (g_of p r e * (f r j * k_of p r j d)) else 0.
Proof.
move=> b_lt kh_lt j_lt r_in.
rewrite (form_cov (row_entries_uniq r) (dv_form e b_lt kh_lt j_lt) (dq_form d r_in)) big_mkcond.
have in_row n : n \in key_entries b kh j -> (n \in row_entries r) = ((r, j) == n).
  case/mapP=> r' _ ->; apply/mapP/eqP => [[j' j'_in [-> _]] // | [<-]]; exists j => //.
  by rewrite seq_iota mem_iota add0n.
transitivity (\sum_(n <- key_entries b kh j) ((r, j) == n)%:R *
    (if shown n then entry_spread n.1 n.2 * (g_of p n.1 e * (f n.1 n.2 * k_of p n.1 n.2 d)) else 0)).
  rewrite big_seq [RHS]big_seq; apply: eq_bigr => n n_in; rewrite in_row //.
  by case: (shown n); rewrite ?mulr0.
rewrite pick_one ?key_entries_uniq // shown_inside //=.
by case: (_ \in _); case: (w_kept w r j); rewrite ?mul1r ?mul0r.
Qed.

(* Any linear functional of all gradients, <R_q, dq> + <R_k, dk> + <R_v, dv> + <R_b, dbias>: elements with factors. *)
Inductive element :=
| Dq (r : row) (d : nat)
| Dk (b kh j d : nat)
| Dv (b kh j e : nat)
| Dbias (at_ : row) (j : nat).

Definition element_inside (x : element) : Prop :=
  match x with
  | Dq r _ => inside_row p r
  | Dk b kh j _ | Dv b kh j _ => [/\ (b < p_batch p)%N, (kh < p_key_heads p)%N & (j < p_keys p)%N]
  | Dbias at_ j => inside_bias p at_ /\ (j < p_keys p)%N
  end.

Definition element_of (g : @gradients F) (x : element) : F :=
  match x with
  | Dq r d => g_dq g r d
  | Dk b kh j d => g_dk g b kh j d
  | Dv b kh j e => g_dv g b kh j e
  | Dbias at_ j => g_dbias g at_ j
  end.

(* The entries that an element is a sum over. *)
Definition element_entries (x : element) : seq (row * nat) :=
  match x with
  | Dq r _ => row_entries r
  | Dk b kh j _ | Dv b kh j _ => key_entries b kh j
  | Dbias at_ j => bias_entries at_ j
  end.

(* How W~_ij counts in it. *)
Definition element_coefficient (x : element) (n : row * nat) : F :=
  let: (r, j) := n in
  match x with
  | Dq _ d => f r j * k_of p r j d
  | Dk _ _ _ d => f r j * q_of p r d
  | Dv _ _ _ e => g_of p r e
  | Dbias _ _ => t_of K p delta_ r j
  end.

Lemma element_form x : element_inside x ->
  is_form (fun o => element_of (pass o) x) (element_entries x) (element_coefficient x).
Proof.
have eta l a b (g : Omega -> F) : (forall n : row * nat, a n = b n) -> is_form g l a -> is_form g l b.
  by move=> same form o; rewrite form; apply: eq_bigr => n _; rewrite same.
case: x => [r d r_in | b kh j d [b_lt kh_lt j_lt] | b kh j e [b_lt kh_lt j_lt] | at_ j [at_in j_lt]] /=.
- by apply: eta (dq_form d r_in); case.
- by apply: eta (dk_form d b_lt kh_lt j_lt); case.
- by apply: eta (dv_form e b_lt kh_lt j_lt); case.
- by apply: eta (dbias_form at_in j_lt); case.
Qed.

Lemma element_entries_uniq x : uniq (element_entries x).
Proof.
by case: x => *; [exact: row_entries_uniq | exact: key_entries_uniq | exact: key_entries_uniq | exact: bias_entries_uniq].
Qed.

(* a_ij: the factors of all elements that W~_ij counts in. *)
Definition functional_coefficient (xs : seq element) (factor : element -> F) (n : row * nat) : F :=
  \sum_(x <- xs) factor x * ((n \in element_entries x)%:R * element_coefficient x n).

Lemma form_extend (g : Omega -> F) (l L : seq (row * nat)) a : uniq l -> uniq L -> {subset l <= L} ->
  is_form g l a -> is_form g L (fun n => (n \in l)%:R * a n).
Proof.
move=> l_uniq L_uniq within form o; rewrite form.
have same : perm_eq [seq n <- L | n \in l] l.
  by apply: uniq_perm; rewrite ?filter_uniq // => n; rewrite mem_filter andb_idr // => /within.
rewrite !big_filter -(perm_big _ same) /= big_filter_cond [LHS]big_mkcond [RHS]big_mkcond.
by apply: eq_bigr => n _; case: (n \in l); case: (shown n); rewrite /= ?mul1r // mul0r mulr0.
Qed.

(* Var phi = sum_ij r_ij a_ij^2 *)
Theorem var_functional (xs : seq element) (factor : element -> F) (L : seq (row * nat)) :
  uniq L -> (forall x, List.In x xs -> element_inside x /\ {subset element_entries x <= L}) ->
  var P (fun o => \sum_(x <- xs) factor x * element_of (pass o) x) =
  \sum_(n <- L | shown n) entry_spread n.1 n.2 * functional_coefficient xs factor n ^+ 2.
Proof.
move=> L_uniq all_xs; apply: (form_var L_uniq) => o.
under [RHS]eq_bigr do rewrite mulr_sumr; rewrite exchange_big /=.
elim: xs all_xs => [|x xs IH] all_xs; first by rewrite !big_nil.
rewrite !big_cons IH => [|y y_in]; last by apply: all_xs; right.
congr (_ + _); have [x_in within] := all_xs x (or_introl erefl).
rewrite (form_extend (element_entries_uniq x) L_uniq within (element_form x_in) o) mulr_sumr.
by apply: eq_bigr => n _; rewrite mulrCA.
Qed.

End Attention.
