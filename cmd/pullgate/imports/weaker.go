package imports

// What is weaker here is listed as a loss is, and begins with this word.
const (
	bundlesCount = "WEAKER: a Sigstore bundle, found as a referrer, counts as well; %s reads signatures under the " +
		".sig and .att tags alone"
	legacyCounts = "WEAKER: a signature under the .sig or .att tag counts as well; this asks for Sigstore bundles"

	childrenByIndex = "WEAKER: a platform image gets in by its signed index, also when it is pulled by its own " +
		"digest; %s then asks for its own signature, as children: own does in a policy"
)
