package support

// data lists what is supported of each kind that may be declared. Fields that
// only a server sets (status, uid, resourceVersion, …) are not Evenkeel's to
// support or refuse: readers drop them. Some fields are here only with the
// value that Kubernetes takes by default, which is what Evenkeel does.
var data = map[string]string{
	"namespaces": `
		metadata @meta
	`,
	"nodes": `
		metadata @meta
		spec.unschedulable
	`,
	"serviceaccounts": `
		metadata @meta
		imagePullSecrets[].name
		automountServiceAccountToken
	`,
	"roles": `
		metadata @meta
		rules[] @rule
	`,
	"clusterroles": `
		metadata @meta
		rules[] @rule
		rules[].nonResourceURLs[]
	`,
	"rolebindings": `
		metadata @meta
		subjects[] @subject
		roleRef @roleRef
	`,
	"clusterrolebindings": `
		metadata @meta
		subjects[] @subject
		roleRef @roleRef
	`,
	"storageclasses": `
		metadata @meta
		provisioner = kubernetes.io/no-provisioner
		reclaimPolicy
		volumeBindingMode
		allowVolumeExpansion = false
	`,
	"persistentvolumes": `
		metadata @meta
		spec.capacity.storage
		spec.accessModes[] = ReadWriteOnce ReadOnlyMany ReadWriteMany
		spec.persistentVolumeReclaimPolicy = Retain Delete
		spec.storageClassName
		spec.volumeMode = Filesystem
		spec.hostPath.path
		spec.hostPath.type
		spec.local.path
		spec.nodeAffinity.required.nodeSelectorTerms[].matchExpressions[] @requirement
		spec.nodeAffinity.required.nodeSelectorTerms[].matchFields[] @requirement
		spec.claimRef.apiVersion
		spec.claimRef.kind
		spec.claimRef.namespace
		spec.claimRef.name
	`,
	"persistentvolumeclaims": `
		metadata @meta
		spec.accessModes[] = ReadWriteOnce ReadOnlyMany ReadWriteMany
		spec.resources.requests.storage
		spec.selector.matchLabels.*
		spec.selector.matchExpressions[] @requirement
		spec.storageClassName
		spec.volumeName
		spec.volumeMode = Filesystem
	`,
	"configmaps": `
		metadata @meta
		data.*
		binaryData.*
		immutable
	`,
	"secrets": `
		metadata @meta
		data.*
		stringData.*
		type
		immutable
	`,
	"services": `
		metadata @meta
		spec.ports[].name
		spec.ports[].protocol = TCP UDP
		spec.ports[].port
		spec.ports[].targetPort
		spec.ports[].nodePort
		spec.ports[].appProtocol
		spec.selector.*
		spec.type = ClusterIP NodePort ExternalName
		spec.clusterIP !ipv6
		spec.clusterIPs[] !ipv6
		spec.externalName
		spec.sessionAffinity
		spec.sessionAffinityConfig.clientIP.timeoutSeconds
		spec.publishNotReadyAddresses
		spec.ipFamilyPolicy = SingleStack
		spec.ipFamilies[] = IPv4
		spec.internalTrafficPolicy = Cluster
		spec.externalTrafficPolicy = Cluster
	`,
	"endpoints": `
		metadata @meta
		subsets[].addresses[] @endpointAddress
		subsets[].notReadyAddresses[] @endpointAddress
		subsets[].ports[] @endpointPort
	`,
	"endpointslices": `
		metadata @meta
		addressType = IPv4
		endpoints[].addresses[] !ipv6
		endpoints[].conditions.ready
		endpoints[].conditions.serving
		endpoints[].conditions.terminating
		endpoints[].hostname
		endpoints[].targetRef **
		endpoints[].nodeName
		endpoints[].zone
		ports[] @endpointPort
	`,
	"pods": `
		metadata @meta
		spec @podSpec
	`,
	"replicationcontrollers": `
		metadata @meta
		spec.replicas
		spec.minReadySeconds
		spec.selector.*
		spec.template.metadata @meta
		spec.template.spec @podSpec
	`,
}

// fragments are parts that several kinds share.
var fragments = map[string]string{
	"meta": `
		name
		namespace
		labels.*
		annotations.*
	`,
	"rule": `
		verbs[]
		apiGroups[]
		resources[]
		resourceNames[]
	`,
	"subject": `
		kind
		apiGroup
		name
		namespace
	`,
	"roleRef": `
		apiGroup
		kind
		name
	`,
	"requirement": `
		key
		operator
		values[]
	`,
	"endpointAddress": `
		ip !ipv6
		hostname
		nodeName
		targetRef **
	`,
	"endpointPort": `
		name
		port
		protocol = TCP UDP
		appProtocol
	`,
	"podSpec": `
		containers[] @container
		initContainers[] @container
		volumes[].name
		volumes[].emptyDir.medium = - Memory
		volumes[].emptyDir.sizeLimit
		volumes[].hostPath.path
		volumes[].hostPath.type
		volumes[].configMap.name
		volumes[].configMap @projection
		volumes[].secret.secretName
		volumes[].secret @projection
		restartPolicy
		terminationGracePeriodSeconds
		nodeSelector.*
		nodeName
		hostNetwork
		hostname
		subdomain
		hostAliases[].ip
		hostAliases[].hostnames[]
		dnsPolicy
		dnsConfig.nameservers[]
		dnsConfig.searches[]
		dnsConfig.options[].name
		dnsConfig.options[].value
		enableServiceLinks = false
		automountServiceAccountToken = false
		serviceAccountName = - default
		serviceAccount = - default
		schedulerName = default-scheduler
		hostPID = false
		hostIPC = false
		shareProcessNamespace = false
		setHostnameAsFQDN = false
		priority = 0
		os.name = linux
		securityContext.runAsUser
		securityContext.runAsGroup
		securityContext.runAsNonRoot
		securityContext.supplementalGroups[]
	`,
	"projection": `
		items[].key
		items[].path
		items[].mode
		defaultMode
		optional
	`,
	"container": `
		name
		image
		imagePullPolicy
		command[]
		args[]
		workingDir
		stdin = false
		stdinOnce = false
		tty = false
		ports[].name
		ports[].containerPort
		ports[].hostPort
		ports[].hostIP !ipv6
		ports[].protocol = TCP UDP
		env[].name
		env[].value
		env[].valueFrom.configMapKeyRef @keyRef
		env[].valueFrom.secretKeyRef @keyRef
		env[].valueFrom.fieldRef.apiVersion
		env[].valueFrom.fieldRef.fieldPath
		envFrom[].prefix
		envFrom[].configMapRef.name
		envFrom[].configMapRef.optional
		envFrom[].secretRef.name
		envFrom[].secretRef.optional
		resources.requests.cpu
		resources.requests.memory
		resources.limits.cpu
		resources.limits.memory
		volumeMounts[].name
		volumeMounts[].mountPath
		volumeMounts[].subPath
		volumeMounts[].readOnly
		volumeMounts[].mountPropagation = - None
		livenessProbe @probe
		readinessProbe @probe
		startupProbe @probe
		terminationMessagePath
		terminationMessagePolicy
		lifecycle.postStart @handler
		lifecycle.preStop @handler
		securityContext.runAsUser
		securityContext.runAsGroup
		securityContext.runAsNonRoot
		securityContext.privileged
		securityContext.readOnlyRootFilesystem
		securityContext.allowPrivilegeEscalation
		securityContext.capabilities.add[]
		securityContext.capabilities.drop[]
	`,
	"keyRef": `
		name
		key
		optional
	`,
	"handler": `
		exec.command[]
		httpGet @httpGet
		sleep.seconds
	`,
	"httpGet": `
		path
		port
		host
		scheme
		httpHeaders[].name
		httpHeaders[].value
	`,
	"probe": `
		exec.command[]
		httpGet @httpGet
		tcpSocket.port
		tcpSocket.host
		initialDelaySeconds
		timeoutSeconds
		periodSeconds
		successThreshold
		failureThreshold
		terminationGracePeriodSeconds
	`,
}
